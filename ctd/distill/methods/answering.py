"""How students answer documents: the plain way, and what ways of more than one text are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import transformers

from ctd.data.damaged import named_if_damaged
from ctd.reasoning import predict, traces
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.predict import Request
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.retrieval.index import LabelIndex

PHASE_2 = "\nCompare:\n"


@dataclass(frozen=True)
class AnsweringStudent:
    """A student that answers documents.

    model: the student, asked as the teacher is.
    documents: their texts.
    index: over the labels to choose from.
    request: what its method asks for.
    max_tokens: of a text at most.
    experts: of its method's stages, by name, asked as it is.
    desc: what the progress bar says.
    """

    model: Teacher
    documents: Sequence[str]
    index: LabelIndex
    request: Request = field(default_factory=Request)
    max_tokens: int = 512
    experts: Mapping[str, Teacher] = field(default_factory=dict)
    desc: str = "answers"

    def write(
        self,
        request: Request | None = None,
        writer: Teacher | None = None,
        rows: Sequence[int] | None = None,
        seed: int = 0,
    ) -> list[Prediction]:
        """What is written about the documents.

        request: the method's own by default.
        writer: this student by default.
        rows: which documents; all by default.
        """
        return predict.reason(
            writer or self.model,
            [self.documents[row] for row in rows] if rows is not None else self.documents,
            self.index,
            request or self.request,
            max_tokens=self.max_tokens,
            seed=seed,
            desc=self.desc,
        )


def load_student(home: Path, like: LanguageModel, name: str, key: str) -> LanguageModel:
    """A student that was saved, ready to write.

    home: its folder.
    like: whose tokenizer, type of numbers and device it has.
    name: of the model that is returned.
    key: of that model.
    """
    with named_if_damaged(home):
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            home, dtype=like.model.dtype, local_files_only=True
        )
    return LanguageModel(name, model.to(like.model.device).eval(), like.tokenizer, key)


def load_experts(folder: Path, student: Teacher) -> dict[str, Teacher]:
    """The experts that were taught beside a student, by name; {} where there are none.

    folder: has a folder for each.
    student: as which they are asked.
    """
    model, experts = student.language_model, {}
    assert isinstance(model, LanguageModel)
    for home in sorted(folder.glob("*/")):
        expert = load_student(home, model, home.name, f"{model.key} {home.name}")
        experts[home.name] = replace(student, language_model=expert)
    return experts


def plainly(student: AnsweringStudent) -> list[Prediction]:
    """One text about each document, as the method asks for it."""
    return student.write()


def phase_1(request: Request, temperature: float = 0.0) -> Request:
    """A request for topics and shortlist alone."""
    return replace(request, temperature=temperature, stop=(PHASE_2,))


def phase_2(request: Request, plans: Sequence[Prediction], temperature: float = 0.0) -> Request:
    """A request that goes on from what was written of Phase 1; a text without a shortlist is begun again.

    plans: what was written of each document.
    """
    begun = [plan.trace.text + PHASE_2 if plan.trace.shortlist else traces.OPEN for plan in plans]
    return replace(request, temperature=temperature, beginnings=begun)
