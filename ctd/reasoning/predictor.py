"""Labels for documents by a student, by a teacher, or without a language model, over any label space.

    predictor = Predictor.load("my-student")
    predictor.predict(["Serum calcium was high."])        # [documents, labels], 0 or 1
    predictor.predict_proba(["Serum calcium was high."])  # the same with scores

Nothing is fitted: the label space comes with the model, or is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from scipy.sparse import csr_matrix

from ctd.cache import digest
from ctd.data import label_files, readers
from ctd.data.label_space import LabelSpace
from ctd.reasoning import models, predict, teachers
from ctd.reasoning.predict import Request
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.linear import WithoutLanguageModel

RETRIEVAL, LINEAR = "retrieval", "linear"  # in place of a model's name
ENCODER = "minilm"  # where a model does not say which it was made with
Mode = Literal["trace", "answer", ""]


@dataclass(frozen=True)
class Labelling:
    """What was predicted for one document.

    labels: their numbers, best first.
    scores: of each label, 0 to 1. Of a model: the probability with which it wrote the label in shortlist and answer,
        each given all before it (the answer alone for a label that was not shortlisted). Of retrieval: the cosine, 0
        where it is negative; of linear: a classifier's probability plus the weighted cosine, over the most that they
        can be. None is calibrated. None where a server gives no probabilities.
    shortlist: labels considered, in their order.
    trace: what the model wrote; "" for retrieval.
    error: why the text is not in the format; "" where it is.
    """

    labels: tuple[int, ...]
    scores: tuple[float | None, ...]
    shortlist: tuple[int, ...]
    trace: str = ""
    error: str = ""


class Way(Protocol):
    """How a student answers that does not write one plain text a document: see `ctd.distill.student_predictor`."""

    @property
    def key(self) -> str:
        """Digest of all that it depends on."""

    def __call__(self, predictor: Predictor, documents: Sequence[str], desc: str) -> list[Prediction]:
        """What it answers."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A fit-free classifier in scikit-learn's manner.

    index: over the labels to choose from.
    teacher: the model; None for none.
    ranker: classifiers beside the index, in place of a model; None for retrieval alone.
    n_labels: labels of a document at most.
    n_shortlist: places of the shortlist that retrieval makes.
    mode: "trace" lets a model reason first, "answer" asks for the answer at once; "" for how a student was taught.
    max_tokens: that a model writes about a document at most.
    own_way: how the model answers; None for one plain text about each document.
    Raises ValueError for a number below 1, more shortlist places than labels, or an unknown mode.
    """

    index: LabelIndex
    teacher: Teacher | None = None
    ranker: WithoutLanguageModel | None = None
    n_labels: int = 10
    n_shortlist: int = 50
    mode: Mode = ""
    max_tokens: int = 512
    own_way: Way | None = None

    def __post_init__(self) -> None:
        for name in ("n_labels", "n_shortlist", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be trace or answer, or empty for the student's own, got {self.mode!r}")

    @classmethod
    def load(
        cls, model: str = RETRIEVAL, labels: LabelSpace | str | Path | None = None, encoder: str = "", **settings: Any
    ) -> Predictor:
        """A predictor by the name of its model.

        model: a student's folder, a teacher's name, any other model's folder or id, "retrieval", or "linear": retrieval
            and classifiers that are fitted to the training documents of a dataset of the book, its labels' own.
        labels: the label space: one that is loaded, a file (see `ctd.data.label_files.read`), or the name of a dataset
            of the book; None for the labels that a student was taught.
        encoder: what places texts that are no label, and finds the labels of retrieval; "" for the student's own, else
            "minilm".
        settings: `n_labels`, `n_shortlist`, `mode`, `max_tokens`.
        Raises ValueError where no label space is given and the model has none, for "linear" without such a dataset,
        and what `teachers.load` raises.
        """
        cls(None, None, **settings)  # type: ignore[arg-type]
        if model == LINEAR:
            if str(labels) not in readers.READERS:
                names = ", ".join(readers.READERS)
                raise ValueError(f"linear learns from a dataset's documents: give one of {names} (--labels)")
            task = readers.load(str(labels))
            index = LabelIndex.build(task.space, encoders.load(encoder or ENCODER))
            return cls(index, ranker=WithoutLanguageModel.fit(task, index), **settings)
        space = label_space(model, labels)
        teacher = None if model == RETRIEVAL else teachers.load(model)
        encoder = encoder or lesson(teacher).get("encoder", ENCODER)
        return cls(LabelIndex.build(space, encoders.load(encoder)), teacher, **settings)

    @property
    def space(self) -> LabelSpace:
        """The labels to choose from."""
        return self.index.space

    @cached_property
    def classes_(self) -> np.ndarray:
        """The ids of the labels, in the order of the columns of `predict` and `predict_proba`."""
        return np.array(self.space.ids[: len(self.space)])

    @property
    def asked(self) -> Literal["trace", "answer"]:
        """The mode that the model is asked in."""
        return self.mode or lesson(self.teacher).get("mode", "trace")

    @property
    def request(self) -> Request:
        """What the model is asked for; a student in its own mode, as it was taught to be asked."""
        how_taught = lesson(self.teacher)
        return Request(self.asked, after_prompt=how_taught.get("after_prompt", "") if not self.mode else "")

    @cached_property
    def key(self) -> str:
        """Digest of all that predictions depend on besides the document."""
        model = "" if self.teacher is None else f"{self.teacher.language_model.key} {self.teacher.document_tokens}"
        settings = [str(value) for value in (self.n_labels, self.n_shortlist, self.asked, self.max_tokens)]
        settings += [self.request.after_prompt] if self.request.after_prompt else []
        settings += [self.ranker.key] if self.ranker else []
        settings += [self.own_way.key] if self.own_way else []
        return digest(["predictor 1", model, self.index.key, *settings])

    def label(self, documents: Sequence[str], desc: str = "labelling") -> list[Labelling]:
        """Labels, scores, shortlist and trace of each document.

        documents: their texts.
        desc: what the progress bar says.
        Raises ValueError for one text in place of several, or an empty text.
        """
        if isinstance(documents, str):
            raise ValueError(f"documents must be a list of texts, got the text {documents[:40]!r}: put it in a list")
        if (empty := next((row for row, text in enumerate(documents) if not text.strip()), None)) is not None:
            raise ValueError(f"document {empty} of {len(documents)} is empty: there is nothing to label")
        if not documents:
            return []
        if self.teacher is None:
            return self._by_retrieval(documents)
        if self.own_way:
            predictions = self.own_way(self, documents, desc)
        else:
            predictions = predict.reason(
                self.teacher, documents, self.index, self.request, max_tokens=self.max_tokens, desc=desc
            )
        return [self._of_model(prediction) for prediction in predictions]

    def predict(self, documents: Sequence[str]) -> csr_matrix:
        """The predicted labels as an indicator matrix [documents, labels] of 0 and 1 (sparse; `.toarray()`).

        documents: their texts.
        """
        matrix = self._matrix(self.label(documents), scored=False)
        return matrix.astype(np.int8)

    def predict_proba(self, documents: Sequence[str]) -> csr_matrix:
        """The scores of the predicted labels, [documents, labels], 0 for all others (sparse). Not calibrated.

        documents: their texts.
        Raises ValueError where a server gives no probabilities.
        """
        return self._matrix(self.label(documents), scored=True)

    def _matrix(self, labellings: Sequence[Labelling], scored: bool) -> csr_matrix:
        values: list[float] = []
        for labelling in labellings:
            if scored and None in labelling.scores:
                raise ValueError("the server gives no probabilities: use predict, or a model that is loaded here")
            values += [float(score or 0.0) if scored else 1.0 for score in labelling.scores]
        indices = [label for labelling in labellings for label in labelling.labels]
        lengths = np.cumsum([0, *(len(labelling.labels) for labelling in labellings)])
        return csr_matrix((values, indices, lengths), shape=(len(labellings), len(self.space)))

    def _by_retrieval(self, documents: Sequence[str]) -> list[Labelling]:
        places = min(max(self.n_shortlist, self.n_labels), len(self.space))
        scores, labels = (self.ranker or self.index).search(list(documents), places)
        scores = scores / (1 + self.ranker.cosine_weight) if self.ranker else scores
        return [
            Labelling(
                tuple(map(int, row[: self.n_labels])),
                tuple(round(float(max(score, 0.0)), 6) for score in values[: self.n_labels]),
                tuple(map(int, row[: self.n_shortlist])),
            )
            for values, row in zip(scores, labels, strict=True)
        ]

    def _of_model(self, prediction: Prediction) -> Labelling:
        labels = prediction.ranking[: self.n_labels]
        logprobs: Sequence[float | None] = prediction.scores[: self.n_labels] or [None] * len(labels)
        scores = tuple(None if logprob is None else round(math.exp(logprob), 6) for logprob in logprobs)
        trace = prediction.trace
        return Labelling(labels, scores, trace.shortlisted, trace.text, trace.error)


def lesson(teacher: Teacher | None) -> Mapping[str, Any]:
    """What a student was taught about, as its manifest says; {} for any other model."""
    return {} if teacher is None else teacher.manifest.get("lesson", {})


def label_space(model: str, labels: LabelSpace | str | Path | None) -> LabelSpace:
    """The label space that is asked for, or the one beside a student's weights.

    model: as in `Predictor.load`.
    labels: as in `Predictor.load`.
    Raises ValueError where there is none.
    """
    if isinstance(labels, LabelSpace):
        return labels
    if labels:
        name = str(labels)
        return readers.load(name).space if name in readers.READERS else label_files.read(Path(name))
    saved = models.folder(model) / label_files.SAVED
    if model != RETRIEVAL and saved.is_file():
        return LabelSpace.load(saved)
    raise ValueError(
        f"{model} comes without labels to choose from: give a file with them, or a dataset "
        f"({', '.join(readers.READERS)}) (--labels)"
    )
