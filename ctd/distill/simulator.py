"""A simulator of an explained model: a logistic regression on how its labels match document and explanation.

Notes: see `ctd.distill.simulatability`. n documents; items: candidates of all documents, in their order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline, make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from ctd.data.label_space import LabelSpace
from ctd.mechanism import embed_text
from ctd.mechanism.untestable import NotTestable
from ctd.reasoning.label_search import mentions
from ctd.reasoning.traces import Mention
from ctd.retrieval.encoders import Encoder
from ctd.text import normalise

Shown = Literal["xe", "x", "e"]
Which = Literal["labels", "first"]
MATCHES = ("cosine", "share of words", "to the letter", "last mention", "mentions")  # of a label and a text


def features(
    documents: Sequence[str],
    explanations: Sequence[str],
    candidates: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
) -> Float[np.ndarray, "items 10"]:
    """How each candidate label matches its document (columns 0 to 4) and the explanation (5 to 9), by `MATCHES`.

    cosine: of the embeddings of label and text, 0 for an empty text.
    share of words: the share of the label's words, normalised, that are in the text.
    to the letter: 1 where the text names the label in whole words, and not as part of a longer label.
    last mention: where the last mention ends, from 0 (none) to 1 (the end of the text).
    mentions: ln(1 + number of mentions).
    Document and explanation are measured alike, so that a copy of the document explains nothing (our definition).
    Raises ValueError for no documents, lengths that differ, a document without candidates or with one twice, or a
    number that is no label.
    """
    _check(candidates, documents=documents, explanations=explanations)
    for labels in candidates:
        space.check(labels)
    return np.hstack([_matches(texts, candidates, space, encoder) for texts in (documents, explanations)])


@dataclass(frozen=True, eq=False)
class Simulator:
    """Predicts the explained model's answer from document, explanation or both. Made by `fit`.

    regression: scikit-learn's.
    which: the kind of item that it was trained on and is judged by.
    """

    regression: Pipeline
    which: Which

    @classmethod
    def fit(
        cls,
        measured: Float[np.ndarray, "items 10"],
        candidates: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
        which: Which = "labels",
    ) -> Simulator:
        """Train a simulator with input dropout (Hase et al.): it sees each item with (x, e), x alone and e alone.

        What is dropped is set to 0; two indicators say what is there. Where both are there, each feature is given once
        more, so that x may weigh less beside e (our definition). With common weights sim(x) suffers, and a mere copy
        of the document has a LAS above 0. Features are divided by their standard deviation; L2 penalty, C = 1.
        measured: `features` of training documents.
        candidates: labels of each document that are asked about.
        answers: the explained model's own labels, best first.
        which: kind of item.
        Raises ValueError for lengths that differ, other than one row of features an item, an unknown `which`, what
        `features` says of candidates, or a first label that is no candidate ("first"); NotTestable for items of one
        class only.
        """
        held, _ = held_items(measured, candidates, answers, which)
        if held.all() or not held.any():
            kind = "answered" if held.any() else "not answered"
            raise NotTestable(f"a simulator learns from labels answered and not, got {len(held)} items, all {kind}")
        seen = np.vstack([_shown(measured, shown) for shown in get_args(Shown)])
        regression = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=1000))
        return cls(regression.fit(seen, np.tile(held, len(get_args(Shown)))), which)

    def predict(self, measured: Float[np.ndarray, "items 10"], shown: Shown = "xe") -> Float[np.ndarray, " items"]:
        """Log-odds (nats) that the label is answered, from what is shown: above 0 it is more likely than not.

        Raises ValueError for anything shown but "xe", "x" and "e".
        """
        return self.regression.decision_function(_shown(measured, shown))


def _matches(
    texts: Sequence[str], candidates: Sequence[Sequence[int]], space: LabelSpace, encoder: Encoder
) -> Float[np.ndarray, "items 5"]:
    """`MATCHES` of each candidate with its document's text."""
    names = [space.texts[label] for labels in candidates for label in labels]
    of_labels = embed_text.embed(encoder, names, desc="embedding labels")
    of_texts = np.repeat(embed_text.embed(encoder, texts), [len(labels) for labels in candidates], axis=0)
    rows = []
    for text, labels in zip(texts, candidates, strict=True):
        words = set(normalise(text).split())
        named: defaultdict[int, list[Mention]] = defaultdict(list)
        for mention in mentions(text, space):
            named[mention.label].append(mention)
        for label in labels:
            name, label_mentions = space.texts[label], named[label]
            label_words = set(normalise(name).split())
            share = len(label_words & words) / max(len(label_words), 1)
            exact = any(text[mention.start : mention.end] == name for mention in label_mentions)
            last = label_mentions[-1].end / len(text) if label_mentions else 0.0
            rows.append((share, exact, last, np.log1p(len(label_mentions))))
    cosines = np.nan_to_num(np.einsum("id,id->i", of_labels, of_texts, dtype=np.float64))
    return np.column_stack([cosines, np.array(rows, np.float64)])


def _shown(measured: Float[np.ndarray, "items 10"], shown: Shown) -> Float[np.ndarray, "items 22"]:
    """What the regression sees: the features of what is shown, again where both are, and an indicator of each."""
    if shown not in get_args(Shown):
        raise ValueError(f"shown must be one of {', '.join(get_args(Shown))}, got {shown!r}")
    there = np.array(["x" in shown, "e" in shown])
    visible = np.where(np.repeat(there, len(MATCHES)), measured, 0.0)
    return np.hstack([visible, visible * there.all(), np.tile(there, (len(measured), 1))])


def held_items(
    measured: Float[np.ndarray, "items 10"],
    candidates: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    which: Which,
) -> tuple[Bool[np.ndarray, " items"], Int[np.ndarray, " items"]]:
    """Whether each item's label is answered (with "first": is the first answered), and which document it belongs to."""
    if which not in get_args(Which):
        raise ValueError(f"which must be one of {', '.join(get_args(Which))}, got {which!r}")
    _check(candidates, answers=answers)
    document = np.repeat(np.arange(len(candidates)), [len(labels) for labels in candidates])
    if np.shape(measured) != (wanted := (len(document), 2 * len(MATCHES))):
        raise ValueError(f"features need the shape [items, columns] = {wanted}, got {np.shape(measured)}")
    held: list[bool] = []
    for row, (labels, answer) in enumerate(zip(candidates, answers, strict=True)):
        if which == "first" and not set(answer := answer[:1]) <= set(labels):
            raise ValueError(f"candidates of document {row} must hold the first label of its answer, {answer[0]}")
        held += [label in answer for label in labels]
    return np.array(held), document


def _check(candidates: Sequence[Sequence[int]], **others: Sized) -> None:
    for name, values in others.items():
        if len(values) != len(candidates):
            raise ValueError(
                f"{name} need one entry a document, got {len(values)}, and candidates of {len(candidates)}"
            )
    if not len(candidates):
        raise ValueError("simulatability needs at least 1 document, got 0")
    for row, labels in enumerate(candidates):
        if not len(labels) or len(set(labels)) < len(labels):
            raise ValueError(f"document {row} needs at least 1 candidate, and none twice, got {list(labels)}")
