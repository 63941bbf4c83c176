"""The forms that the mechanistic terms may take: those of the published runs, and ours without their faults.

Notes: `ORIGINAL` are the forms that the book's published runs were trained with. Three of them measure little of what
they are named after: almost all attention goes elsewhere than to gold label and near miss, so the three-way loop term
is near 0; a map that is trained along takes over the write term without the student; a sum over pairs of heads grows
with the square of their number. `MENDED` has none of these. All forms are our definition. n1 queries of Phase 1 in a
batch; s, t dimensions of student and teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctd.distill.signals import TINY
from ctd.reasoning import architecture


@dataclass(frozen=True)
class Forms:
    """The form of each kind of mechanistic term that has more than one.

    loop: "three-way" compares the attention to gold label, near miss and elsewhere; "two-way" how what goes to the two
        labels is divided between them.
    write: "learned" compares writes through a linear map that is trained with the student; "fixed" trains no map: none
        is needed for a student made of the teacher's layers, and for any other it is fitted to the two vocabularies
        before training, and writes are centred.
    interaction: "sum" over all pairs of heads, or the mean "per-pair".
    Raises ValueError for another form.
    """

    loop: Literal["three-way", "two-way"] = "three-way"
    write: Literal["learned", "fixed"] = "learned"
    interaction: Literal["sum", "per-pair"] = "sum"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Forms).items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")


ORIGINAL, MENDED = Forms(), Forms("two-way", "fixed", "per-pair")
FORMS = {"original": ORIGINAL, "mended": MENDED}
"""Forms of all terms together, by name."""


def of_two(split: Float[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
    """How the attention to gold label and near miss is divided between the two.

    split: attention to the gold label, to its near miss, and elsewhere.
    """
    shares = split[:, :2].clamp(min=TINY)
    return shares / shares.sum(-1, keepdim=True)


def write_cosine(teacher: Float[Tensor, "n d"], student: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean over n of 1 - cos of the summed writes: L_write of Phase 1.

    teacher: its writes, in the student's basis.
    """
    if not len(teacher):
        return student.sum() * 0
    return (1 - torch.cosine_similarity(teacher, student, dim=-1)).mean()


def centred(writes: Float[Tensor, "n d"], row: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """The writes less their mean over the queries of the same trace.

    row: the trace of each query.
    """
    if not len(row):
        return writes
    counts = row.bincount().clamp(min=1).to(writes.dtype)
    means = writes.new_zeros(len(counts), writes.shape[1]).index_add(0, row, writes) / counts[:, None]
    return writes - means[row]


class LearnedMap(nn.Module):
    """The write term through a linear map from the teacher's width to the student's, trained with the student."""

    def __init__(self, teacher_width: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(teacher_width, width, bias=False)
        nn.init.eye_(self.project.weight)

    def forward(
        self, teacher: Float[Tensor, "n1 t"], student: Float[Tensor, "n1 s"], row: Int[Tensor, " n1"]
    ) -> Float[Tensor, ""]:
        """The term; rows are not needed."""
        return write_cosine(self.project(teacher), student)


class SharedBasis(nn.Module):
    """The write term of a student made of the teacher's layers, whose dimensions mean the same: no map."""

    def forward(
        self, teacher: Float[Tensor, "n1 d"], student: Float[Tensor, "n1 d"], row: Int[Tensor, " n1"]
    ) -> Float[Tensor, ""]:
        """The term; rows are not needed."""
        return write_cosine(teacher, student)


class FittedMap(nn.Module):
    """The write term through a map that is fixed before training; writes are centred within each trace.

    matrix: from the teacher's width to the student's (see `fit_to_vocabularies`).
    """

    matrix: Tensor

    def __init__(self, matrix: Float[Tensor, "t s"]) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(
        self, teacher: Float[Tensor, "n1 t"], student: Float[Tensor, "n1 s"], row: Int[Tensor, " n1"]
    ) -> Float[Tensor, ""]:
        """The term. row: the trace of each query."""
        return write_cosine(centred(teacher, row) @ self.matrix, centred(student, row))


@torch.no_grad()
def fit_to_vocabularies(teacher: Any, student: Any) -> Float[Tensor, "t s"]:
    """The linear map that takes the teacher's output vector of a token to the student's: least squares, both centred.

    No head of either model is looked at, so the map cannot take over what their writes are to be compared for.
    """
    rows = [model.get_output_embeddings().weight.detach().double().cpu() for model in (teacher, student)]
    n = min(map(len, rows))  # some models have rows behind the last token
    teacher_rows, student_rows = (row[:n] - row[:n].mean(0) for row in rows)
    return torch.linalg.lstsq(teacher_rows.T @ teacher_rows, teacher_rows.T @ student_rows).solution.float()


def write_term(form: str, teacher: Any, student: Any, shared_basis: bool) -> nn.Module:
    """The write term in a form of `Forms`.

    shared_basis: whether the student is made of the teacher's layers.
    """
    if form == "learned":
        return LearnedMap(*(architecture.shape(model).width for model in (teacher, student)))
    return SharedBasis() if shared_basis else FittedMap(fit_to_vocabularies(teacher, student))
