"""What each arm costs in full: targets learned, tokens that the teacher reads and writes, tokens sampled, time."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ctd.distill.examples import Example, batches, collate
from ctd.distill.experiment import N_SCORED, Experiment
from ctd.distill.measures import Outcome
from ctd.distill.methods import Arm, trace_examples
from ctd.distill.methods.teacher_samples import teacher_samples
from ctd.distill.settings import Settings
from ctd.reasoning.token_spans import tokenize

LEARNED_TOKEN, READ_TOKEN = 6, 2  # operations for each parameter: Kaplan et al. (2020), arXiv:2001.08361


@dataclass(frozen=True)
class Cost:
    """What one student of an arm takes; NaN for what depends on the student while it learns.

    learned_targets: tokens that it is taught to write, each as often as it is learned.
    teacher_tokens_read: tokens that go through the teacher and are not written by it. What its traces were asked with
        counts for every arm.
    teacher_tokens_written: tokens of its traces, and of the answers that were sampled from it.
    student_tokens_sampled: tokens that the student writes while it learns.
    training_compute: operations in all, in 10^9: 6 a parameter of the student for each token that it learns from
        (padding counted), 2 a parameter of the teacher for each of its tokens.
    """

    learned_targets: float
    teacher_tokens_read: float
    teacher_tokens_written: float
    student_tokens_sampled: float
    training_compute: float


def table(experiment: Experiment, arms: Sequence[Arm], outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Columns arm, those of `Cost` (means over seeds), and seconds: of a training and of an answer, as measured.

    An outcome without an arm has its seconds alone.
    """
    by_name = {arm.name: arm for arm in arms}
    n_student = experiment.initial_student(0).num_parameters()
    rows = []
    for outcome in outcomes:
        seconds = {"arm": outcome.arm, "training_seconds": outcome.seconds, "answer_seconds": outcome.answer_seconds}
        arm = by_name.get(outcome.arm)
        rows.append(seconds | (asdict(cost(experiment, arm, outcome, n_student)) if arm else {}))
    return pd.DataFrame(rows).groupby("arm", sort=False).mean().reset_index()


def cost(experiment: Experiment, arm: Arm, outcome: Outcome, n_student: int) -> Cost:
    """What one student took.

    n_student: its parameters.
    """
    read, written = teacher_tokens(experiment, arm)
    n_teacher = experiment.language_model.model.num_parameters()
    operations = LEARNED_TOKEN * n_student * outcome.tokens + READ_TOKEN * n_teacher * (read + written)
    sampled = np.nan if _reads_student(arm) else 0.0
    return Cost(learned_targets(experiment, arm, outcome), read, written, sampled, operations / 1e9)


def learned_targets(experiment: Experiment, arm: Arm, outcome: Outcome) -> float:
    """The targets of all steps that a student took; a text that a loss reads beside it counts too."""
    if _reads_student(arm):
        return np.nan
    planned, remaining, total = round(experiment.plan.n_steps * arm.step_multiplier), outcome.steps, 0
    for stage in arm.stages:
        n_steps = remaining if stage is arm.base else round(planned * stage.share)
        texts = arm.texts(experiment, stage)
        counts = [_n_targets(text) for text in texts]
        taken = steps(texts, experiment.plan.batch_tokens, n_steps, outcome.seed)
        total += sum(counts[row] for rows in taken for row in rows)
        remaining -= n_steps
    return float(total)


def teacher_tokens(experiment: Experiment, arm: Arm) -> tuple[float, float]:
    """How many tokens the teacher reads and writes for an arm, each pass counted once for all students."""
    traces = trace_examples(experiment)
    n_prompts, lengths = sum(trace.n_prompt for trace in traces), [len(trace.ids) for trace in traces]
    read, written = float(n_prompts), float(sum(lengths) - n_prompts)
    if "samples" in arm.needs:
        settings = {**arm.base.settings, **dict(arm.settings)}
        names = inspect.signature(teacher_samples).parameters
        chosen: dict[str, Any] = {name: settings[name] for name in names if name in settings}
        drawn = teacher_samples(experiment, **chosen)
        tokenizer = experiment.language_model.tokenizer
        texts = [sample.trace.text for samples in drawn for sample in samples]
        read += n_prompts * max(len(samples) for samples in drawn)
        written += sum(len(tokenize(text, tokenizer).ids) for text in texts)
    if "distribution" in arm.needs:
        for stage in (stage for stage in arm.stages if not stage.of_text):
            read += np.nan if stage.reads_student else sum(len(text.ids) for text in arm.texts(experiment, stage))
    if "hidden" in arm.needs:
        read += sum(lengths)
    if "heads" in arm.needs:
        read += sum(lengths) + sum(lengths[:N_SCORED])
    return read, written


def _reads_student(arm: Arm) -> bool:
    return "model" in arm.needs or any(stage.reads_student for stage in arm.stages)


def _n_targets(text: Example) -> int:
    paired = 0 if text.paired is None else collate([text.paired], [0]).n_targets
    return collate([text], [0]).n_targets + paired


def steps(texts: Sequence[Example], batch_tokens: int, n_steps: int, seed: int) -> list[list[int]]:
    """The examples of each step that training takes."""
    epoch = len(batches(texts, Settings(batch_tokens=batch_tokens, seed=seed, epochs=1)))
    return batches(texts, Settings(batch_tokens=batch_tokens, seed=seed, epochs=-(-n_steps // epoch)))[:n_steps]
