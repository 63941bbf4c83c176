"""How students answer the test documents: the plain way, and what ways of more than one text are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import transformers

from ctd.data.damaged import named_if_damaged
from ctd.distill.experiment import Experiment
from ctd.reasoning import predict, traces
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.predict import Request
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher

PHASE_2 = "\nCompare:\n"


@dataclass(frozen=True)
class AnsweringStudent:
    """A student that answers the test documents.

    experiment: whose documents they are.
    model: the student, asked as the teacher is.
    request: what its method asks for.
    desc: what the progress bar says.
    experts: folder with the experts of its method's stages; None where it has none.
    """

    experiment: Experiment
    model: Teacher
    request: Request
    desc: str
    experts: Path | None = None

    def write(
        self,
        request: Request | None = None,
        writer: Teacher | None = None,
        rows: Sequence[int] | None = None,
        seed: int = 0,
    ) -> list[Prediction]:
        """What is written about test documents.

        request: the method's own by default.
        writer: this student by default.
        rows: which documents; all by default.
        """
        documents = self.experiment.test_documents
        return predict.reason(
            writer or self.model,
            [documents[row] for row in rows] if rows is not None else documents,
            self.experiment.index,
            request or self.request,
            max_tokens=self.experiment.plan.max_tokens,
            seed=seed,
            desc=self.desc,
        )

    def expert(self, name: str) -> Teacher:
        """An expert, asked as the teacher is."""
        student = self.model.language_model
        assert self.experts
        assert isinstance(student, LanguageModel)
        expert = load_student(self.experts / name, student, name, f"{student.key} {name}")
        return replace(self.model, language_model=expert)


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
