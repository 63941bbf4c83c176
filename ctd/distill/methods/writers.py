"""Recipes that ask who wrote the traces: the teacher, another model, or a rule, and an editor who knows the labels."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.shortening import as_trace
from ctd.distill.methods.teacher_samples import sample_example, written
from ctd.distill.methods.texts import gold_labels, trace_examples
from ctd.distill.methods.warmup import BY_RULE
from ctd.reasoning import grammar, predict, prompts, rationales, teachers, traces
from ctd.reasoning.traces import Trace

TEACHER, RULE, EDITED = "teacher", "rule", "edited"


def few_traces(experiment: Experiment, writer: str = TEACHER, n_few: int = 20) -> list[Example]:
    """A few traces: the teacher's, constructed ones, or the teacher's as an editor who knows the labels mends them.

    writer: "teacher", "rule", "edited", or another teacher, as in `by_writer`.
    n_few: how many.
    Raises what `by_writer` raises.

    Source: Is Human-Written Data Enough, arXiv:2507.09850; there people write and edit.
    """
    return by_writer(experiment, writer)[: int(n_few)]


def by_writer(experiment: Experiment, writer: str = RULE) -> list[Example]:
    """Texts of a writer of one's choice about the documents of the traces: the prompt is read, the text is learned.

    Documents about which that writer has nothing in the format are left out.

    writer: "rule" for constructed traces, "teacher", "edited" for the teacher's traces with the gold labels in
        shortlist and answer, or the name of another teacher with the same tokenizer.
    Raises ValueError for a teacher with another tokenizer, or where no text is left; what `rationales.for_task` raises.

    Source: Not All Correct Answers Are Equal, arXiv:2505.14464, which compares three teachers.
    """
    if writer == TEACHER:
        return trace_examples(experiment)
    if writer == RULE:
        texts = constructed(experiment)
    elif writer == EDITED:
        gold = gold_labels(experiment)
        texts = [edited(trace, experiment, gold[trace.uid]) for trace in experiment.traces]
    else:
        texts = of_another(experiment, writer)
    learned = [sample_example(text, experiment.language_model.tokenizer) for text in texts if not text.error]
    if not learned:
        raise ValueError(f"writer must be one that writes in the format about these documents, got {writer!r}")
    return learned


def constructed(experiment: Experiment) -> list[Trace]:
    """Traces by rule about the same documents, from their gold labels."""
    prompt = {trace.uid: trace.prompt for trace in experiment.traces}
    cut = partial(
        prompts.cut, tokenizer=experiment.language_model.tokenizer, n_tokens=experiment.teacher.document_tokens
    )
    texts: list[Trace] = []
    for split in {"train", "validation"} & set(experiment.task.documents):
        rows = [row for row, uid in enumerate(experiment.task.documents[split]["uid"]) if uid in prompt]
        if rows:
            task = experiment.task.select(split, np.array(rows))
            texts += rationales.for_task(task, split, experiment.index, len(rows), 0, BY_RULE, cut)
    order = {trace.uid: row for row, trace in enumerate(experiment.traces)}
    texts.sort(key=lambda text: order[text.uid])
    return [replace(text, prompt=prompt[text.uid]) for text in texts]


def edited(trace: Trace, experiment: Experiment, gold: set[int]) -> Trace:
    """A trace with all gold labels in its shortlist, and these alone as its answer; without gold as it is."""
    if not gold or trace.free_form is not None:
        return trace
    text, texts = listing(trace, experiment, sorted(gold)).text, experiment.task.space.texts
    order = [*(label for label in trace.answered if label in gold), *sorted(gold - set(trace.answered))]
    start = text.rindex(traces.ANSWER) + len(traces.ANSWER)
    return as_trace(experiment, trace, text[:start] + "".join(traces.item_line(texts[label]) for label in order))


def listing(trace: Trace, experiment: Experiment, labels: list[int]) -> Trace:
    """A trace with more labels at the end of its shortlist; those that stand in it stay where they are."""
    if trace.shortlist is None or trace.free_form is not None:
        return trace
    texts, listed = experiment.task.space.texts, {experiment.task.space.texts[label] for label in trace.shortlisted}
    more = [text for text in dict.fromkeys(texts[label] for label in labels) if text not in listed]
    items = "".join(f"\n{traces.item_line(text)[:-1]}" for text in more)
    place = trace.shortlist.end
    return as_trace(experiment, trace, trace.text[:place] + items + trace.text[place:])


def of_another(experiment: Experiment, name: str) -> list[Trace]:
    """What another teacher writes about the same documents."""
    teacher = teachers.load(name)
    vocabulary, other_vocabulary = (
        grammar.tokenizer_content(model.tokenizer) for model in (experiment.language_model, teacher.language_model)
    )
    if vocabulary != other_vocabulary:
        raise ValueError(f"writer must have the tokenizer of {experiment.language_model.name}, got {name!r}")
    texts = written(experiment, teacher, f"texts of {name}", predict.Request())
    return [replace(text, prompt=trace.prompt) for text, trace in zip(texts, experiment.traces, strict=True)]
