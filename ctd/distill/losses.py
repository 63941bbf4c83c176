"""What a student is taught: the words of a trace, the teacher's distribution over words, or what its heads compute.

Notes: each term is a small function of what teacher and student computed at the same places of the same trace
(`ctd.distill.signals`), 0 where they are alike. Which terms there are is the paper's (arXiv:2606.06840); their forms
are our definition. Losses that train are callables (model, batch) -> the sum over the batch's target tokens, as
`distill.train` wants them; terms that are means over queries count as many times as the batch has targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctd.distill import signals
from ctd.distill.signals import TINY, Kept, Signals
from ctd.distill.train import IGNORED, Batch, Loss, token_loss
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning.annotate import AnnotatedTrace

Divergence = Literal["fkl", "rkl", "jsd"]


def kl(teacher: Float[Tensor, "n x"], student: Float[Tensor, "n x"]) -> Float[Tensor, ""]:
    """Mean over n of KL(teacher || student), nats: L_attn of Phase 1 and L_loop of Phase 2; 0 where n is."""
    if not len(teacher):
        return student.sum() * 0
    apart = teacher.clamp(min=TINY).log() - student.clamp(min=TINY).log()
    return (teacher * apart).sum(-1).mean()


def write_cosine(teacher: Float[Tensor, "n d"], student: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean over n of 1 - cos of the summed writes: L_write of Phase 1, the teacher's already projected."""
    if not len(teacher):
        return student.sum() * 0
    return (1 - torch.cosine_similarity(teacher, student, dim=-1)).mean()


def gram_distance(teacher: Float[Tensor, "b k k"], student: Float[Tensor, "b k k"]) -> Float[Tensor, ""]:
    """Mean over passages of the squared Frobenius distance of two Gram matrices of cosines: L_int of either phase.

    Blind to any rotation of either model's writes. Raises ValueError for different numbers of heads.
    """
    if teacher.shape != student.shape:
        raise ValueError(
            f"the interaction needs as many heads on both sides, got {list(teacher.shape)} and {list(student.shape)}"
        )
    return ((teacher - student) ** 2).sum((1, 2)).mean()


def along_cosine(
    teacher: Float[Tensor, " n"], student: Float[Tensor, " n"], row: Int[Tensor, " n"], n_rows: int
) -> Float[Tensor, ""]:
    """1 - cos over each passage's queries of two courses along the margin, mean over passages: L_write of Phase 2.

    row: the passage of each query. Passages without one are left out; 0 where none has one.
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
    """The weight of each term, against a loss of one token; 0 leaves it out. The names end in their phase."""

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
        """The weights in the order of their names. Raises ValueError for another number of them, or one below 0."""
        names = [field.name for field in fields(cls)]
        if len(values) != len(names):
            raise ValueError(f"there are {len(names)} weights ({', '.join(names)}), got {len(values)}")
        return cls(*values)

    def times(self, factor: float) -> Weights:
        """All of them multiplied. Raises ValueError for a factor below 0."""
        return Weights(*[factor * weight for weight in asdict(self).values()])

    def without(self, *names: str) -> Weights:
        """The same without some terms: one by its name, a phase ("1", "2"), or a kind in both of them ("write").

        Raises ValueError for another name.
        """
        known = [field.name for field in fields(self)]
        gone = [name for name in known if {name, name[:-1], name[-1]} & set(names)]
        several = dict.fromkeys([name[-1] for name in known] + [name[:-1] for name in known])
        if unknown := [name for name in names if name not in known and name not in several]:
            raise ValueError(f"term must be one of {', '.join([*known, *several])}, got {unknown[0]!r}")
        return Weights(**{name: 0.0 if name in gone else getattr(self, name) for name in known})


def terms(
    teacher: Signals, student: Signals, row2: Int[Tensor, " n2"], project: nn.Module | None = None
) -> dict[str, Float[Tensor, ""]]:
    """The six terms by the names of `Weights`. row2: the passage of each Phase-2 query. project: the map P."""
    written = teacher.write1 if project is None else project(teacher.write1)
    return {
        "attention1": kl(teacher.attention, student.attention),
        "write1": write_cosine(written, student.write1),
        "interaction1": gram_distance(teacher.gram1, student.gram1),
        "loop2": kl(teacher.split, student.split),
        "write2": along_cosine(teacher.along, student.along, row2, len(teacher.gram2)),
        "interaction2": gram_distance(teacher.gram2, student.gram2),
    }


class Mechanistic(nn.Module):
    """The loss of the words plus the weighted terms of both phases, in training mode; else the token loss alone.

    passages, kept: of each example that is learned from, the teacher's signals, on disk (`signals.stored`) or read in
    each step (`signals.Live`). chosen: the student's heads of each phase, matched in order to the teacher's. The map P
    from the teacher's width to the student's is learned along (its weights are parameters of this module) and not part
    of the student. fade: of the training, the fraction over which the weights of the terms fall linearly to zero; 0 for
    never. words: the loss that the terms are added to: `distill.token_loss` (the paper's L_CoT), or a
    `TokenDistillation` (our definition).
    Raises ValueError for passages without signals, or a fade outside 0 .. 1.
    """

    def __init__(
        self,
        passages: Sequence[AnnotatedTrace],
        kept: Sequence[Kept],
        chosen: Mapping[Phase, Sequence[Head]],
        weights: Weights,
        width: int,
        fade: float = 0.0,
        words: Loss = token_loss,
    ) -> None:
        super().__init__()
        if not 0 <= fade <= 1:
            raise ValueError(f"fade must be between 0 and 1, got {fade}")
        if not passages or len(passages) != len(kept):
            raise ValueError(f"every passage needs its signals, got {len(passages)} passages and {len(kept)} signals")
        self.passages, self.kept, self.chosen, self.weights, self.fade = passages, kept, chosen, weights, fade
        self.words = words
        self.project = nn.Linear(kept[0].write1.shape[1], width, bias=False)
        nn.init.eye_(self.project.weight)

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        strength = max(0.0, 1 - batch.done / self.fade) if self.fade else 1.0
        if not model.training or not strength:
            return self.words(model, batch)
        part = [self.passages[row] for row in batch.rows]
        where = signals.places(part, batch.ids.shape[1]).on(batch.ids.device)
        with signals.reading(model, where, self.chosen) as found:
            total = self.words(model, batch)
        with torch.autocast(batch.ids.device.type, enabled=False):
            kept = [self.kept[row] for row in batch.rows]
            teacher = signals.together(kept, part, batch.ids.shape[1], batch.ids.device)
            parts = terms(teacher, found.signals(), where.row2, self.project)
            added = torch.stack([getattr(self.weights, name) * value for name, value in parts.items()]).sum()
        return total + batch.n_targets * strength * added


class TokenDistillation:
    """Word-level distillation: a divergence between the teacher's and the student's next-word distributions.

    fkl: KL(teacher || student) (Hinton et al., 2015). rkl: KL(student || teacher) (Gu et al., 2024). jsd: generalised
    Jensen-Shannon divergence (Agarwal et al., 2024) with `beta` as TRL has it: towards fkl for beta near 0. The teacher
    runs in every step. Outside training mode the token loss alone. Raises ValueError for an unknown divergence or a
    beta outside 0 .. 1.
    """

    def __init__(self, teacher: Any, divergence: Divergence = "fkl", beta: float = 0.1) -> None:
        if divergence not in ("fkl", "rkl", "jsd"):
            raise ValueError(f"divergence must be one of fkl, rkl, jsd, got {divergence!r}")
        if not 0 < beta < 1:
            raise ValueError(f"beta must be between 0 and 1 (both excluded), got {beta}")
        self.teacher, self.divergence, self.beta = teacher, divergence, beta

    def __call__(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        if not model.training:
            return token_loss(model, batch)
        wanted = batch.targets != IGNORED
        with torch.no_grad():
            of_teacher = _log_p(self.teacher, batch, wanted)
        return divergence(of_teacher, _log_p(model, batch, wanted), self.divergence, self.beta)


def divergence(
    teacher: Float[Tensor, "n v"], student: Float[Tensor, "n v"], which: Divergence = "fkl", beta: float = 0.1
) -> Float[Tensor, ""]:
    """Sum over n tokens of a divergence of two log-probabilities (nats); see `TokenDistillation`."""

    def of(p: Tensor, q: Tensor) -> Tensor:
        return (p.exp() * (p - q)).sum()

    if which == "fkl":
        return of(teacher, student)
    if which == "rkl":
        return of(student, teacher)
    log_beta, log_rest = math.log(beta), math.log1p(-beta)
    mixed = torch.logsumexp(torch.stack([student + log_rest, teacher + log_beta]), 0)
    return beta * of(teacher, mixed) + (1 - beta) * of(student, mixed)


def _log_p(model: Any, batch: Batch, wanted: Tensor) -> Float[Tensor, "n v"]:
    hidden = model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    return model.get_output_embeddings()(hidden[wanted]).float().log_softmax(-1)
