"""Losses of pairs: of two texts about a document, the better one becomes likelier and the worse one less likely.

Notes: each text counts by the mean log-probability of its tokens, or by its sum, so that long texts do not count more.
The value of a pair is multiplied by the mean number of targets of a text: the training loop divides by targets. b pairs
of a batch, n targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ctd.distill.examples import IGNORED, Batch, Example, collate
from ctd.distill.experiment import Experiment
from ctd.distill.methods.method import Course
from ctd.distill.methods.scoring import batch_log_p, target_log_p
from ctd.distill.methods.teacher_samples import sample_example, teacher_samples
from ctd.distill.methods.texts import f1, gold_labels, trace_examples
from ctd.distill.methods.token_by_token import fixed
from ctd.distill.token_loss import Loss, token_loss
from ctd.reasoning import trace_parser, traces
from ctd.reasoning.traces import Trace

Value = Callable[[Float[Tensor, " b"], Float[Tensor, " b"]], Float[Tensor, " b"]]
"""The loss of pairs from the mean log-probability of a token of the better and of the worse text."""


def sampled_pairs(
    experiment: Experiment, gap: float = 0.2, n_samples: int = 4, temperature: float = 1.0
) -> list[Example]:
    """Every trace beside the teacher's worst sampled answer to its document, where that is worse.

    gap: by how much F1 it must be worse (ours).
    n_samples: answers to a document.
    temperature: at which they are drawn.
    Raises ValueError where no document has such a pair.
    """
    gold, tokenizer = gold_labels(experiment), experiment.language_model.tokenizer
    pairs = []
    for example, trace, samples in zip(
        trace_examples(experiment), experiment.traces, teacher_samples(experiment, n_samples, temperature), strict=True
    ):
        worst = min(samples, key=lambda sample: sample.f1, default=None)
        if worst is not None and f1(set(trace.answered), gold[trace.uid]) - worst.f1 >= gap:
            pairs.append(example._replace(paired=sample_example(worst.trace, tokenizer)))
    if not pairs:
        raise ValueError(f"gap must be lower than {gap:g}: no document has an answer that is worse by so much F1")
    return pairs


def flawed_pairs(experiment: Experiment) -> list[Example]:
    """Every trace beside itself with an answered label and one that it decided against exchanged after Phase 1.

    Our construction: the source pairs sound reasoning and a right verdict with flawed reasoning and a wrong one.

    Raises ValueError where no trace compares an answered label with another.
    """
    tokenizer, texts, pairs = experiment.language_model.tokenizer, experiment.task.space.texts, []
    for example, trace in zip(trace_examples(experiment), experiment.traces, strict=True):
        if (text := flawed(trace, texts)) is not None:
            wrong = trace_parser.parse(text, experiment.task.space, trace.uid, trace.document)
            pairs.append(example._replace(paired=sample_example(replace(wrong, prompt=trace.prompt), tokenizer)))
    if not pairs:
        raise ValueError("pairs need traces that compare an answered label with another one, and there is none")
    return pairs


def flawed(trace: Trace, texts: Sequence[str]) -> str | None:
    """A trace's text with the labels of its first decision exchanged after the shortlist; None where it has none.

    texts: of the labels.
    """
    decided = (c.labels for c in trace.comparisons if len(set(c.labels) & set(trace.answered)) == 1)
    labels = next(decided, None)
    if labels is None or trace.shortlist is None or trace.free_form is not None:
        return None
    other, text = dict(zip(labels, labels[::-1], strict=True)), trace.text
    for label, start, end in sorted(trace.mentions, key=lambda mention: -mention.start):
        if label in other and start >= trace.shortlist.end:
            pattern = traces.IN_LINE if start >= trace.answer_span.start else traces.IN_MARK
            text = text[:start] + traces.escape(texts[other[label]], pattern) + text[end:]
    return text


def redi(course: Course, alpha: float = 0.8) -> Loss:
    """The better text is learned, and the worse one unlearned a little less.

    alpha: what the worse text counts; at 0 the better ones are learned alone.

    Source: Reinforcement Distillation (REDI), arXiv:2505.24850, whose second stage has a fiftieth of the learning rate.
    """
    return Pairs(partial(asymmetric, alpha=alpha), course.examples)


def asymmetric(better: Float[Tensor, " b"], worse: Float[Tensor, " b"], alpha: float = 0.8) -> Float[Tensor, " b"]:
    """REDI's loss of pairs."""
    return alpha * worse - better


def orpo(course: Course, weight: float = 0.1) -> Loss:
    """The better text is learned, and its odds are raised over those of the worse one.

    weight: of the odds ratio.

    Source: R2Vul, arXiv:2504.04699, which minimises the loss of ORPO, arXiv:2403.07691.
    """
    return Pairs(partial(odds_ratio, weight=weight), course.examples)


def odds_ratio(better: Float[Tensor, " b"], worse: Float[Tensor, " b"], weight: float = 0.1) -> Float[Tensor, " b"]:
    """ORPO's loss of pairs."""
    return -better - weight * logsigmoid(log_odds(better) - log_odds(worse))


def log_odds(log_p: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Log-odds of log-probabilities."""
    return log_p - torch.log(-torch.expm1(log_p))


def kto(course: Course, beta: float = 0.1) -> Loss:
    """The better text gains over the student before this stage, and the worse one loses, each up to a point.

    beta: how soon a gain is enough.

    Source: Deliberation on Priors, arXiv:2505.15210, which minimises the loss of KTO, arXiv:2402.01306.
    """
    return Kto(course, beta)


class Pairs(nn.Module):
    """The sum of a loss over the pairs of a batch, in training mode; otherwise the token loss of the better texts.

    value: the loss of some pairs.
    examples: the better texts; each has a worse one, its `paired`.
    """

    def __init__(self, value: Value, examples: Sequence[Example]) -> None:
        super().__init__()
        self.value, self.worse = value, [example.paired for example in examples]
        self.targets = sum(len(example.ids) - max(example.n_prompt, 1) for example in examples) / len(examples)

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's pairs, times the mean number of targets of a text."""
        if not model.training or not batch.n_targets:
            return token_loss(model, batch)
        return self.targets * self.of_pairs(model, batch, collate(self.worse, batch.rows, batch.ids.device)).sum()

    def of_pairs(self, model: Any, better: Batch, worse: Batch) -> Float[Tensor, " b"]:
        """The loss of each pair."""
        return self.value(mean_log_p(model, better), mean_log_p(model, worse))


class Kto(Pairs):
    """The loss of Kahneman-Tversky optimisation, of pairs.

    The point from which a gain counts is that of the batch's prompts beside the better texts of other documents. So it
    depends on which pairs share a pass, as in the source.

    course: its student is the reference, as it stands now.
    beta: how soon a gain is enough.
    """

    def __init__(self, course: Course, beta: float = 0.1) -> None:
        super().__init__(lambda better, worse: better, course.examples)
        self.beta = beta
        texts = list(course.examples)
        self.strange = [
            Example([*text.ids[: text.n_prompt], *other.ids[other.n_prompt :]], text.n_prompt)
            for text, other in zip(texts, [*texts[1:], texts[0]], strict=True)
        ]
        self.reference = [
            torch.stack([log_p.sum() for log_p in target_log_p(course.student, part)])
            for part in (texts, self.worse, self.strange)
        ]

    def of_pairs(self, model: Any, better: Batch, worse: Batch) -> Float[Tensor, " b"]:
        rows = list(better.rows)
        with torch.no_grad():
            strange = summed_log_p(model, collate(self.strange, rows, better.ids.device))
        gain, loss, point = (
            now - before.to(now)[rows]
            for now, before in zip(
                (summed_log_p(model, better), summed_log_p(model, worse), strange), self.reference, strict=True
            )
        )
        return prospect(gain, loss, fixed(point.mean().clamp(min=0)), self.beta)


def prospect(
    better: Float[Tensor, " b"], worse: Float[Tensor, " b"], point: Float[Tensor, ""], beta: float = 0.1
) -> Float[Tensor, " b"]:
    """KTO's loss of a good and a bad text.

    better: log-probability of the good text over the reference's.
    worse: that of the bad one.
    point: from which a gain counts.
    """
    return 2 - torch.sigmoid(beta * (better - point)) - torch.sigmoid(beta * (point - worse))


def text_log_p(model: Any, batch: Batch) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """The summed log-probability of each text's targets, and how many these are."""
    learned, values = batch.targets != IGNORED, batch_log_p(model, batch)
    total = values.new_zeros(len(batch.ids)).index_add(0, learned.nonzero()[:, 0], values)
    return total, learned.sum(1).to(total)


def summed_log_p(model: Any, batch: Batch) -> Float[Tensor, " b"]:
    """The log-probability of each text's targets."""
    return text_log_p(model, batch)[0]


def mean_log_p(model: Any, batch: Batch) -> Float[Tensor, " b"]:
    """The mean log-probability of a target of each text."""
    total, counts = text_log_p(model, batch)
    return total / counts
