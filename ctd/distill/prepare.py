"""How an experiment begins: the teacher writes traces of training documents and answers the test documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ctd.data.task import Task
from ctd.distill.experiment import Experiment, Plan
from ctd.mechanism.untestable import NotTestable, reasons
from ctd.reasoning import annotate, architecture, predict
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import Trace
from ctd.retrieval.index import LabelIndex


def prepare(
    teacher: Teacher, task: Task, index: LabelIndex, plan: Plan, seed: int = 0, live: bool = False
) -> Experiment:
    """Let the teacher write its traces about training documents and its answers on the test documents.

    plan: asks for `n_traces` training documents; where the task has fewer, all are taken.
    seed: draws the training documents.
    live: as in `Experiment`.
    Raises NotTestable where fewer than two traces can be learned from, and ValueError for a teacher behind a server, a
    split that the task does not have, and patience without validation documents.
    """
    if plan.split not in task.documents:
        raise ValueError(f"split must be one of {', '.join(task.documents)}, got {plan.split!r}")
    unprepared = Experiment(teacher, task, index, plan, [], [], [], {}, live)
    drawn = task.sample("train", plan.n_traces, seed)
    annotated, traces, left_out = _written(unprepared, drawn, "train", seed, "traces to learn from")
    if len(annotated) < 2:
        raise NotTestable(
            f"a student needs at least 2 traces to learn from, got {len(annotated)} (left out: {reasons(left_out)})"
        )
    prepared = replace(
        unprepared,
        annotated_traces=annotated,
        traces=traces,
        teacher_answers=predict.reason(
            teacher,
            unprepared.test_documents,
            index,
            max_tokens=plan.max_tokens,
            seed=seed,
            desc="the teacher's answers",
        ),
        left_out=left_out,
    )
    return _with_validation(prepared, seed) if plan.patience else prepared


def prepare_draws(
    teacher: Teacher, task: Task, index: LabelIndex, plan: Plan, seeds: Sequence[int], draw_per_seed: bool = True
) -> dict[int, Experiment]:
    """An experiment for each seed of the students.

    seeds: of the students.
    draw_per_seed: each seed draws training documents of its own, so that differences from seed to seed are those of the
        traces, too. Otherwise all share the draw of the first.
    Raises what `prepare` raises.
    """
    if not draw_per_seed:
        return dict.fromkeys(seeds, prepare(teacher, task, index, plan, seeds[0]))
    return {seed: prepare(teacher, task, index, plan, seed) for seed in seeds}


def _with_validation(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with traces of validation documents, none of which is a test document of the plan."""
    plan, task = experiment.plan, experiment.task
    first = plan.n_test if plan.split == "validation" else 0
    last = min(first + plan.n_validation, len(task.documents.get("validation", [])))
    if first >= last:
        raise ValueError(
            f"patience needs validation documents, and the task has none behind the first {first}: set it to 0"
        )
    held_out = task.select("validation", np.arange(first, last))
    annotated, traces, left_out = _written(experiment, held_out, "validation", seed, "traces to validate on")
    if not annotated:
        raise ValueError(
            f"patience needs traces of validation documents, and of {last - first} none can be read ({left_out}): set "
            "it to 0"
        )
    return replace(experiment, validation_annotated=annotated, validation_traces=traces)


def _written(
    experiment: Experiment, drawn: Task, split: str, seed: int, desc: str
) -> tuple[list[AnnotatedTrace], list[Trace], dict[str, int]]:
    """What the teacher writes about a split of a task: as tokens, as text, and how much was left out by the reason."""
    plan, language_model, rows = experiment.plan, experiment.language_model, drawn.documents[split]
    predictions = predict.reason(
        experiment.teacher,
        list(rows["text"]),
        experiment.index,
        uids=list(rows["uid"]),
        max_tokens=plan.max_tokens,
        seed=seed,
        desc=desc,
    )
    traces = {prediction.trace.uid: prediction.trace for prediction in predictions}
    flat = drawn.space.parents is None  # then the labels are their own topics, which the text alone never asks for
    annotated, left_out = annotate.annotate_traces(
        list(traces.values()),
        [prediction.ranking for prediction in predictions],
        rows["labels"] if flat else drawn.topics(split, plan.topic_depth, plan.n_topics),
        drawn.space,
        language_model.tokenizer,
        architecture.context(language_model.model),
    )
    return annotated, [traces[trace.uid] for trace in annotated], dict(left_out)
