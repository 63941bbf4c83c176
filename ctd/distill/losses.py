"""Losses that compare a student with its teacher: the next token's distribution, or what their heads compute.

Notes: each mechanistic term compares what teacher and student computed at the same places of the same trace
(`ctd.distill.signals`); it is 0 where they agree. The terms are the paper's (arXiv:2606.06840), their forms are our
definition. A loss is summed over a batch's target tokens, so a term, which is a mean over queries, is multiplied by
their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctd.distill import loss_forms, signals, teacher_states, trace_signals
from ctd.distill.examples import IGNORED, Batch
from ctd.distill.loss_forms import ORIGINAL, Forms
from ctd.distill.signals import TINY, Places, Signals
from ctd.distill.teacher_states import States
from ctd.distill.token_loss import Loss, last_hidden, next_token_loss, token_loss
from ctd.distill.trace_signals import TraceSignals
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning.annotate import AnnotatedTrace

Divergence = Literal["fkl", "rkl", "jsd"]


def kl(teacher: Float[Tensor, "n x"], student: Float[Tensor, "n x"]) -> Float[Tensor, ""]:
    """Mean over n of KL(teacher || student), in nats: L_attn of Phase 1 and L_loop of Phase 2. 0 where n is 0."""
    if not len(teacher):
        return student.sum() * 0
    log_ratio = teacher.clamp(min=TINY).log() - student.clamp(min=TINY).log()
    return (teacher * log_ratio).sum(-1).mean()


def gram_distance(
    teacher: Float[Tensor, "b k k"], student: Float[Tensor, "b k k"], per_pair: bool = False
) -> Float[Tensor, ""]:
    """Mean over traces of the squared Frobenius distance of two Gram matrices of cosines: L_int of either phase.

    It is 0 where one model's writes are a rotation of the other's.
    per_pair: divide by the k (k - 1) entries beside the diagonal.
    Raises ValueError for different numbers of heads.
    """
    if teacher.shape != student.shape:
        raise ValueError(
            f"the interaction needs as many heads on both sides, got {list(teacher.shape)} and {list(student.shape)}"
        )
    k = teacher.shape[1]
    return ((teacher - student) ** 2).sum((1, 2)).mean() / (max(k * (k - 1), 1) if per_pair else 1)


def along_cosine(
    teacher: Float[Tensor, " n"], student: Float[Tensor, " n"], row: Int[Tensor, " n"], n_rows: int
) -> Float[Tensor, ""]:
    """1 - cos of two sequences of margin components, mean over traces: L_write of Phase 2.

    teacher: at every query, how far the summed write moves the margin.
    student: likewise.
    row: the trace of each query. Traces without one are left out; 0 where none has one.
    n_rows: how many traces there are.
    """
    if not len(teacher):
        return student.sum() * 0

    def summed(values: Float[Tensor, " n"]) -> Float[Tensor, " b"]:
        return values.new_zeros(n_rows).index_add(0, row, values)

    lengths = (summed(teacher**2).clamp(min=TINY) * summed(student**2).clamp(min=TINY)).sqrt()
    cosine = summed(teacher * student) / lengths
    return (1 - cosine)[row.unique()].mean()


@dataclass(frozen=True)
class Weights:
    """The weight of each term beside the loss of a token; 0 leaves the term out.

    attention1: where the heads of Phase 1 attend in the document.
    write1: what they write to the residual stream.
    interaction1: how the writes of single heads relate.
    loop2: how the heads of Phase 2 divide their attention between the gold label and its near miss.
    write2: how far their writes move the margin between these two.
    interaction2: how the writes of single heads relate.
    Raises ValueError for a weight below 0.
    """

    attention1: float = 1.0
    write1: float = 0.1
    interaction1: float = 0.1
    loop2: float = 1.0
    write2: float = 0.1
    interaction2: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 0:
                raise ValueError(f"weight {name} must be at least 0, got {value}")

    @classmethod
    def of(cls, values: Sequence[float]) -> Weights:
        """The weights in the order of the fields. Raises ValueError for another number of them, or one below 0."""
        names = [field.name for field in fields(cls)]
        if len(values) != len(names):
            raise ValueError(f"there are {len(names)} weights ({', '.join(names)}), got {len(values)}")
        return cls(*values)

    def times(self, factor: float) -> Weights:
        """All weights multiplied. Raises ValueError for a factor below 0."""
        return Weights(*[factor * weight for weight in asdict(self).values()])

    def without(self, *names: str) -> Weights:
        """The weights without some terms.

        names: a term, a phase ("1", "2"), or a kind of term in both phases ("write").
        Raises ValueError for another name.
        """
        known = [field.name for field in fields(self)]
        left_out = [name for name in known if {name, name[:-1], name[-1]} & set(names)]
        groups = dict.fromkeys([name[-1] for name in known] + [name[:-1] for name in known])
        if unknown := [name for name in names if name not in known and name not in groups]:
            raise ValueError(f"term must be one of {', '.join([*known, *groups])}, got {unknown[0]!r}")
        return Weights(**{name: 0.0 if name in left_out else getattr(self, name) for name in known})


def terms(
    teacher: Signals, student: Signals, where: Places, write_term: nn.Module, forms: Forms = ORIGINAL
) -> dict[str, Float[Tensor, ""]]:
    """The six terms by the names of `Weights`.

    where: the places of the queries.
    write_term: compares the writes of Phase 1 (see `loss_forms.write_term`).
    forms: of the other terms.
    """
    divided = loss_forms.of_two if forms.loop == "two-way" else lambda split: split
    per_pair = forms.interaction == "per-pair"
    return {
        "attention1": kl(teacher.attention, student.attention),
        "write1": write_term(teacher.write1, student.write1, where.row1),
        "interaction1": gram_distance(teacher.gram1, student.gram1, per_pair),
        "loop2": kl(divided(teacher.split), divided(student.split)),
        "write2": along_cosine(teacher.along, student.along, where.row2, len(teacher.gram2)),
        "interaction2": gram_distance(teacher.gram2, student.gram2, per_pair),
    }


class Mechanistic(nn.Module):
    """A base loss plus the weighted terms of both phases in training mode; otherwise the base loss alone.

    What is trained in `write_term` is a parameter of this module and not part of the student.
    annotated_traces: what is learned from, in the order of the examples.
    teacher_signals: the teacher's signals of each trace (see `ctd.distill.trace_signals`).
    student_heads: the student's heads of each phase, in the order of the teacher's that they are matched to.
    weights: of the terms.
    write_term: compares the writes of Phase 1 (see `loss_forms.write_term`).
    anneal_fraction: the fraction of the training over which the weights fall linearly to 0; 0 for never.
    base_loss: what the terms are added to: `token_loss` (the paper's L_CoT), or a `TokenDistillation` (our definition).
    forms: of the other terms.
    Raises ValueError for traces without signals, or a fraction outside 0 .. 1.
    """

    def __init__(
        self,
        annotated_traces: Sequence[AnnotatedTrace],
        teacher_signals: Sequence[TraceSignals],
        student_heads: Mapping[Phase, Sequence[Head]],
        weights: Weights,
        write_term: nn.Module,
        anneal_fraction: float = 0.0,
        base_loss: Loss = token_loss,
        forms: Forms = ORIGINAL,
    ) -> None:
        super().__init__()
        if not 0 <= anneal_fraction <= 1:
            raise ValueError(f"anneal_fraction must be between 0 and 1, got {anneal_fraction}")
        if not annotated_traces or len(annotated_traces) != len(teacher_signals):
            raise ValueError(
                f"every trace needs its signals, got {len(annotated_traces)} traces and {len(teacher_signals)} signals"
            )
        self.annotated_traces, self.teacher_signals = annotated_traces, teacher_signals
        self.student_heads, self.weights, self.anneal_fraction, self.base_loss = (
            student_heads,
            weights,
            anneal_fraction,
            base_loss,
        )
        self.write_term, self.forms = write_term, forms

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        strength = max(0.0, 1 - batch.done / self.anneal_fraction) if self.anneal_fraction else 1.0
        if not model.training or not strength:
            return self.base_loss(model, batch)
        traces = [self.annotated_traces[row] for row in batch.rows]
        length, device = batch.ids.shape[1], batch.ids.device
        where = signals.places(traces, length).on(device)
        with signals.reading(model, where, self.student_heads) as reading:
            total = self.base_loss(model, batch)
        with torch.autocast(device.type, enabled=False):
            teacher = trace_signals.together([self.teacher_signals[row] for row in batch.rows], traces, length, device)
            values = terms(teacher, reading.signals(), where, self.write_term, self.forms)
            weighted = torch.stack([getattr(self.weights, name) * value for name, value in values.items()]).sum()
        return total + batch.n_targets * strength * weighted


class TokenDistillation:
    """A divergence between the teacher's and the student's distributions over the next token.

    It is computed over the whole vocabulary. Outside training mode it is the token loss alone.
    teacher: the teacher's model; its output layer is used.
    divergence: "fkl", KL(teacher || student) (Hinton et al., 2015); "rkl", KL(student || teacher) (Gu et al., 2024); or
        "jsd", the generalised Jensen-Shannon divergence (Agarwal et al., 2024).
    beta: the teacher's share of jsd's mixture, as in TRL; near 0 jsd is like fkl.
    states: the teacher's last hidden states; None to run the teacher in every step.
    Raises ValueError for an unknown divergence, or a beta outside 0 .. 1.
    """

    def __init__(
        self, teacher: Any, divergence: Divergence = "fkl", beta: float = 0.1, states: States | None = None
    ) -> None:
        if divergence not in ("fkl", "rkl", "jsd"):
            raise ValueError(f"divergence must be one of fkl, rkl, jsd, got {divergence!r}")
        if not 0 < beta < 1:
            raise ValueError(f"beta must be between 0 and 1 (both excluded), got {beta}")
        self.teacher, self.divergence, self.beta = teacher, divergence, beta
        self.states = states or teacher_states.Live(teacher)

    def __call__(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        if not model.training:
            return token_loss(model, batch)
        states = self.states(batch)
        head = self.teacher.get_output_embeddings()

        @torch.no_grad()
        def criterion(log_p: Float[Tensor, "m v"], rows: slice) -> tuple[Float[Tensor, ""], Float[Tensor, "m v"]]:
            teacher = head(states[rows]).to(log_p.dtype).log_softmax(-1)
            return divergence(teacher, log_p, self.divergence, self.beta)

        return next_token_loss(model, last_hidden(model, batch, batch.targets != IGNORED), criterion)


def divergence(
    teacher: Float[Tensor, "n v"], student: Float[Tensor, "n v"], which: Divergence = "fkl", beta: float = 0.1
) -> tuple[Float[Tensor, ""], Float[Tensor, "n v"]]:
    """A divergence of log-probabilities, summed over n tokens, in nats (see `TokenDistillation`).

    Both may be overwritten. Returns it and its gradient by the student's logits.
    """
    if which == "fkl":
        p = teacher.exp()
        return torch.dot(p.flatten(), teacher.sub_(student).flatten()), student.exp_().sub_(p)
    q = student.exp()
    if which == "rkl":
        log_ratio = student.sub_(teacher)
        by_token = (q * log_ratio).sum(-1, keepdim=True)
        return by_token.sum(), log_ratio.sub_(by_token).mul_(q)
    mixture = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    log_ratio = student - mixture
    by_token = (q * log_ratio).sum(-1, keepdim=True)
    value = beta * (teacher.exp() * (teacher - mixture)).sum() + (1 - beta) * by_token.sum()
    return value, (1 - beta) * q * (log_ratio - by_token)
