"""Students that answer in a way of their method's own, such as LoRID's three experts, about any documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctd.cache import digest
from ctd.data.label_space import LabelSpace
from ctd.distill.methods import METHODS, Arm
from ctd.distill.methods.answering import AnsweringStudent, plainly
from ctd.distill.teach import EXPERTS
from ctd.reasoning import models
from ctd.reasoning.predictor import RETRIEVAL, Predictor
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher


@dataclass(frozen=True, eq=False)
class OwnWay:
    """How a student answers.

    arm: it was taught as.
    experts: taught beside it, by name.
    """

    arm: Arm
    experts: dict[str, Teacher] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Digest of method, settings and experts."""
        keys = [f"{name} {expert.language_model.key}" for name, expert in self.experts.items()]
        return digest(["own way 1", self.arm.method, self.arm.base_loss, repr(self.arm.settings), *keys])

    def __call__(self, predictor: Predictor, documents: Sequence[str], desc: str) -> list[Prediction]:
        """What the student answers, about one document at a time: what is drawn does not depend on its neighbours."""
        assert predictor.teacher
        student = AnsweringStudent(
            predictor.teacher, (), predictor.index, predictor.request, predictor.max_tokens, self.experts, desc
        )
        return [self.arm.answers(replace(student, documents=[document]))[0] for document in documents]


def load(
    model: str = RETRIEVAL, labels: LabelSpace | str | Path | None = None, encoder: str = "", **settings: Any
) -> Predictor:
    """A predictor, as `Predictor.load` gives it, that answers in the way of the method which a student was taught by.

    model, labels, encoder, settings, errors: as there. A student that is asked in another mode than its own writes one
        plain text.
    """
    plain = Predictor.load(model, labels, encoder, **settings)
    if plain.teacher is None or plain.mode or not (arm := _arm(plain.teacher)) or arm.base.answers is plainly:
        return plain
    homes = (models.folder(model) / EXPERTS).glob("*/")
    experts = {home.name: replace(plain.teacher, language_model=models.load(str(home))) for home in sorted(homes)}
    return replace(plain, own_way=OwnWay(arm, experts))


def _arm(student: Teacher) -> Arm | None:
    """How a student was taught, as its manifest says; None for another model, or a method that is not there."""
    taught = student.manifest.get("arm", {})
    if taught.get("method") not in METHODS or taught["base_loss"] not in METHODS:
        return None
    settings = tuple((name, value) for name, value in taught["settings"])
    return Arm(taught["name"], taught["method"], base_loss=taught["base_loss"], settings=settings)
