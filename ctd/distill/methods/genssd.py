"""Gen-SSD: the teacher offers several next lines, and its text goes on with the one likeliest to the student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.scoring import line_means, lines_of, target_log_p
from ctd.distill.methods.teacher_samples import sample_example, written
from ctd.reasoning import predict, traces
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.sampling import Sampling

LINE_TOKENS = 96  # of a line at most; a longer one is no candidate
CLOSED = "</think>\n"


def chosen_by_student(
    experiment: Experiment,
    student: Any,
    n_candidates: int = 4,
    temperature: float = 1.0,
    unlikeliest: float = 0.05,
    max_lines: int = 48,
) -> list[Example]:
    """The teacher's texts, each line the likeliest to the student of several that the teacher offers.

    A line counts by the mean log-probability of its tokens. Where no candidate is likely enough, the reasoning ends,
    and the teacher answers. Lines are ours; the source has chunks.

    student: as the stage before left it.
    n_candidates: lines that the teacher offers; with 1 its texts are samples that the student can only end.
    temperature: at which they are drawn.
    unlikeliest: a candidate is too unlikely where it is below this quantile of the lines of its traces (ours).
    max_lines: after which the reasoning ends.
    Raises ValueError for fewer than one candidate, or where no text is in the format.

    Source: Gen-SSD, arXiv:2604.02819, as third parties state it.
    """
    if n_candidates < 1:
        raise ValueError(f"n_candidates must be at least 1, got {n_candidates}")
    bound, texts = likely_enough(experiment, student, unlikeliest), [traces.OPEN for _ in experiment.traces]
    rows = list(range(len(texts)))
    for number in range(int(max_lines)):
        begun = [experiment.traces[row].prompt + texts[row] for row in rows]
        offers = offered(experiment, begun, int(n_candidates), temperature, number)
        going_on = []
        for row, lines, worth in zip(rows, offers, likelihoods(experiment, student, begun, offers), strict=True):
            best = choose(texts[row], lines, worth, bound)
            if best is not None:
                texts[row] += best
                going_on += [row] if best != CLOSED else []
        if not (rows := going_on):
            break
    answers = written(
        experiment, experiment.teacher, "the teacher's answers", predict.Request(beginnings=[*map(answering, texts)])
    )
    whole = [sample_example(text, experiment.language_model.tokenizer) for text in answers if not text.error]
    if not whole:
        raise ValueError(f"max_lines must be higher than {max_lines:g}: no text has come to its answer")
    return whole


def likely_enough(experiment: Experiment, student: Any, quantile: float) -> float:
    """A quantile of how likely the student finds the lines of the teacher's own traces."""
    tokenizer = experiment.language_model.tokenizer
    log_p = target_log_p(student, [sample_example(trace, tokenizer) for trace in experiment.traces])
    means = [
        line_means(values, lines_of(trace, tokenizer)) for values, trace in zip(log_p, experiment.traces, strict=True)
    ]
    return torch.cat(means).quantile(quantile).item()


def offered(
    experiment: Experiment, begun: Sequence[str], n_candidates: int, temperature: float, seed: int
) -> list[list[str]]:
    """Next lines of the teacher after each beginning, those that are no whole line left out."""
    model = experiment.language_model
    completions = generate(
        model,
        [text for text in begun for _ in range(n_candidates)],
        Sampling(LINE_TOKENS, temperature, seed=seed, stop=("\n",)),
        Limits(predict.BATCH_TOKENS),
        LabelLists(experiment.index.space, model.tokenizer),
        f"the teacher's lines {seed + 1}",
    )
    lines = [f"{completion.text}\n" if completion.finished else "" for completion in completions]
    return [
        [line for line in dict.fromkeys(lines[start : start + n_candidates]) if line.strip()]
        for start in range(0, len(lines), n_candidates)
    ]


def likelihoods(
    experiment: Experiment, student: Any, begun: Sequence[str], offers: Sequence[Sequence[str]]
) -> list[list[float]]:
    """The student's mean log-probability of a token of each line that is offered after a beginning."""

    def ids(text: str) -> list[int]:
        tokens: list[int] = experiment.language_model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    before = [ids(text) for text in begun]
    texts = [
        Example([*tokens, *ids(line)], len(tokens))
        for tokens, lines in zip(before, offers, strict=True)
        for line in lines
    ]
    means = iter([log_p.mean().item() for log_p in target_log_p(student, texts)])
    return [[next(means) for _ in lines] for lines in offers]


def choose(text: str, lines: Sequence[str], worth: Sequence[float], bound: float) -> str | None:
    """The line with which a text goes on; None where its reasoning ends.

    A line that the text holds already is no candidate. Reasoning cannot end before the shortlist has an item.
    """
    known = set(text.splitlines(keepends=True))
    candidates = {line: value for line, value in zip(lines, worth, strict=True) if line not in known}
    best = max(candidates, key=candidates.__getitem__, default=None)
    return None if best is None or (candidates[best] < bound and "Shortlist:\n- " in text) else best


def answering(text: str) -> str:
    """A text whose reasoning ended, up to its answer's heading."""
    cot = text.removesuffix(CLOSED)
    compare = "" if "\nCompare:\n" in cot else "Compare:\n"
    return f"{cot}{compare}{CLOSED}{traces.ANSWER}"
