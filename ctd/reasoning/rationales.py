"""Constructed ("rationalised") training traces: gold labels dressed as a reasoning that no model ever did.

Notes: everything here is made from a document's gold labels, the label space and a retriever, by templates: first
broad topics, then a shortlist of gold labels, near misses and retrieved distractors in an order that does not give
gold away, then one comparison for each gold label that has a near miss in the list, quoting the words of the document
that tell the two apart, then the answer. The form is ours; to vary the wording, add to the templates. No trace is ever
made from a test document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.reasoning import trace_parser, traces
from ctd.reasoning.comparison_wording import comparison, pick, quotes
from ctd.reasoning.traces import Trace
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex
from ctd.text import Word, stems, words

TOPICS = ("{topics}", "mainly {topics}", "this is about {topics}", "broadly {topics}")

Order = Literal["document", "random"]


@dataclass(frozen=True)
class Settings:
    """How constructed traces look.

    shortlist_size: how many labels the shortlist holds; more where there is much gold, see `shortlist`.
    n_near: near misses in the shortlist at most.
    topic_depth: level of the tree whose nodes are the topics. Labels themselves are no topics.
    n_topics: topics at most.
    answer_order: "document" gives the gold labels in the order in which the document first shares a word with them (the
        others last), "random" in random order. Comparisons follow it.
    shortlist_order: the same for the shortlist, but "document" begins it anywhere and goes round, so that gold stands
        at each place alike.
    n_comparisons: how many at most, those that quote the document first, all in the answer's order; None for all.
    Raises ValueError for a setting out of bounds.
    """

    shortlist_size: int = 20
    n_near: int = 6
    topic_depth: int = 0
    n_topics: int = 3
    answer_order: Order = "document"
    shortlist_order: Order = "random"
    n_comparisons: int | None = None

    def __post_init__(self) -> None:
        if self.n_topics < 1:
            raise ValueError(f"n_topics must be at least 1, got {self.n_topics}")
        for name, order in (("answer_order", self.answer_order), ("shortlist_order", self.shortlist_order)):
            if order not in get_args(Order):
                raise ValueError(f"{name} must be {' or '.join(get_args(Order))}, got {order!r}")
        if self.n_comparisons is not None and self.n_comparisons < 0:
            raise ValueError(f"n_comparisons must be at least 0, or None for all, got {self.n_comparisons}")


def rationalise(
    document: str,
    gold: Sequence[int],
    space: LabelSpace,
    retrieved: Sequence[int],
    near: Mapping[int, Sequence[int]],
    topics: Sequence[str],
    rng: np.random.Generator,
    settings: Settings = Settings(),
) -> Trace:
    """A constructed trace of one document, from its arguments and the generator alone.

    Of labels that share a text only the first can be named.

    document: its text.
    gold: the document's gold labels, all of which stand in the shortlist and in the answer.
    space: the label space.
    retrieved: a retriever's labels, best first.
    near: near misses of each gold label, best first.
    topics: broad topics, the first one first.
    rng: draws orders and wording.
    settings: how the trace looks.
    Raises ValueError without gold labels, or for a label outside the space.
    """
    labels = space.check([*gold, *retrieved, *chain.from_iterable(near.values())]).tolist()
    first = {space.texts[label]: label for label in reversed(labels)}

    def distinct(labels: Sequence[int]) -> list[int]:
        return list(dict.fromkeys(first[space.texts[label]] for label in labels))

    right = distinct(gold)
    misses = {first[space.texts[label]]: distinct(rivals) for label, rivals in near.items()}
    listed = shortlist(right, misses, distinct(retrieved), settings.shortlist_size, settings.n_near, rng)
    answer = [right[row] for row in rng.permutation(len(right))]
    document_words = words(document)
    place = _first_mention(document, document_words, space)
    if settings.answer_order == "document":
        answer.sort(key=place)
    if settings.shortlist_order == "document":
        listed = np.roll(sorted(listed, key=place), rng.integers(len(listed))).tolist()
    rivals = {
        label: [miss for miss in misses.get(label, ()) if miss in listed and miss not in right] for label in answer
    }
    comparisons = [
        comparison(document, document_words, space.texts[label], space.texts[rivals[label][0]], rng)
        for label in answer
        if rivals[label]
    ]
    text = traces.write(
        pick(TOPICS, rng).format(topics="; ".join(topics)) if topics else "none",
        (space.texts[label] for label in listed),
        _quoting_first(comparisons, settings.n_comparisons),
        (space.texts[label] for label in answer),
    )
    return trace_parser.parse(text, space, document=document)


def _first_mention(document: str, words: list[Word], space: LabelSpace) -> Callable[[int], int]:
    """Where a document first shares a word with a label; its end where it shares none."""
    starts = {word.stem: word.start for word in reversed(words)}
    return lambda label: min(starts.get(stem, len(document)) for stem in stems(space.texts[label]))


def _quoting_first(comparisons: Sequence[str], n: int | None) -> list[str]:
    """At most n comparisons in their order, those that quote the document before others."""
    best = sorted(range(len(comparisons)), key=lambda row: not quotes(comparisons[row]))
    return [comparisons[row] for row in sorted(best[:n])]


def shortlist(
    gold: Sequence[int],
    near: Mapping[int, Sequence[int]],
    retrieved: Sequence[int],
    size: int,
    n_near: int,
    rng: np.random.Generator,
) -> list[int]:
    """Gold labels and others, in uniformly random order.

    gold: labels that all stand in the list.
    near: near misses of each gold label, best first.
    retrieved: a retriever's labels, best first; they fill what near misses leave free.
    size: how many labels in all; twice the gold labels where that is more, so that gold is never the greater part;
        fewer where near misses and retrieved labels run out.
    n_near: near misses at most, each gold label's best first, in turn.
    Raises ValueError without gold labels, for size below 1, or for n_near below 0.
    """
    if not len(gold):
        raise ValueError("a trace needs at least one gold label, got none")
    if size < 1 or n_near < 0:
        raise ValueError(f"size must be at least 1 and n_near at least 0, got {size} and {n_near}")
    in_turn = chain.from_iterable(zip_longest(*(near.get(label, ()) for label in gold)))
    misses = [label for label in dict.fromkeys(in_turn) if label is not None and label not in gold]
    room = max(size, 2 * len(gold)) - len(gold)
    others = list(dict.fromkeys([*misses[: min(n_near, room)], *(label for label in retrieved if label not in gold)]))
    members = [*gold, *others[:room]]
    return [members[row] for row in rng.permutation(len(members))]


def for_task(
    task: Task,
    split: str,
    index: LabelIndex,
    n_documents: int,
    seed: int,
    settings: Settings = Settings(),
    cut: Callable[[str], str] = str,
) -> Iterator[Trace]:
    """Constructed traces of a split's first documents, by scored gold labels; never of the test split.

    Gold labels (unscored ones too), unscored labels and filtered pairs are never distractors. Document k's trace
    depends on seed and k alone (and on the encoder's rounding).

    task: documents, gold labels and label space.
    split: "train" or "validation".
    index: over the task's label space; retrieves distractors, and ranks each gold label's near misses by their cosine
        to the document.
    n_documents: how many documents are read, all where there are fewer; those without a scored gold label give no
        trace.
    seed: of all that is drawn.
    settings: how the traces look.
    cut: from a document's text to what a reader with a short context sees of it, which is the trace's document;
        retrieval reads the whole.
    Raises ValueError for the test split, a number out of range, or a label space without nodes above its labels.
    """
    space = task.space
    if split == "test":
        raise ValueError("split must be train or validation, got 'test': no trace is made from a test document")
    if split not in task.documents:
        raise ValueError(f"split must be train or validation, got {split!r}")
    if n_documents < 1:
        raise ValueError(f"n_documents must be at least 1, got {n_documents}")
    if not 1 <= settings.shortlist_size <= len(space):
        raise ValueError(
            f"shortlist_size must be between 1 and {len(space)} (labels in '{space.name}'), "
            f"got {settings.shortlist_size}"
        )
    if not 0 <= settings.n_near <= settings.shortlist_size:
        raise ValueError(
            f"n_near must be between 0 and {settings.shortlist_size} (shortlist_size), got {settings.n_near}"
        )
    if index.space.texts[: len(index.space)] != space.texts[: len(space)]:
        raise ValueError(f"index must be over the labels of '{space.name}', got one over those of '{index.space.name}'")
    if len(space.ids) == len(space):
        raise ValueError(
            f"label space '{space.name}' has no nodes above its labels to serve as topics: give it some with "
            "with_clusters()"
        )
    space.anchors([], settings.topic_depth)
    return _traces(task, split, index, n_documents, seed, settings, cut)


def _traces(
    task: Task,
    split: str,
    index: LabelIndex,
    n_documents: int,
    seed: int,
    settings: Settings,
    cut: Callable[[str], str],
) -> Iterator[Trace]:
    space, documents, gold = task.space, task.documents[split], task.gold(split)
    barred = _barred(task, split)
    for row, vector, retrieved in _retrieved(task, split, index, n_documents, settings.shortlist_size, barred):
        right = gold[row].indices.tolist()
        if not right:
            continue
        bar = set(barred[row].indices.tolist())
        topics = [space.texts[topic] for topic in space.anchors(right, settings.topic_depth) if topic >= len(space)]
        trace = rationalise(
            cut(documents[row]["text"]),
            right,
            space,
            retrieved,
            {label: _near_misses(label, bar, space, index, vector, settings.n_near) for label in right},
            topics[: settings.n_topics],
            np.random.default_rng((seed, row)),
            settings,
        )
        yield replace(trace, uid=documents[row]["uid"])


def _retrieved(
    task: Task, split: str, index: LabelIndex, n_documents: int, size: int, barred: csr_matrix
) -> Iterator[tuple[int, Float[np.ndarray, " d"], list[int]]]:
    """Row and vector of each of the first documents, with enough retrieved labels for a shortlist, best first."""
    documents = task.documents[split]
    rows = range(min(n_documents, len(documents)))
    if not rows:
        return
    wanted = int(max(size, 2 * np.diff(task.gold(split).indptr).max(initial=0)))
    vectors = encoders.encode(index.encoder, documents[: len(rows)]["text"], f"embedding {len(rows):,} documents")
    for start in range(0, len(rows), 128):
        block = np.asarray(vectors[start : start + 128])
        _, nearest = index.search(block, min(wanted, len(task.space)), barred[start : start + len(block)])
        for row, vector, labels in zip(rows[start : start + 128], block, nearest, strict=True):
            yield row, vector, [int(label) for label in labels if label >= 0]


def _barred(task: Task, split: str) -> csr_matrix:
    """What no distractor may be, [documents, labels]: any gold label, unscored labels, filtered pairs."""
    gold = task.gold(split, scored=False)
    unscored = np.zeros(len(task.space), bool)
    unscored[task.unscored] = True
    barred = gold + csr_matrix(np.ones((gold.shape[0], 1), bool)) @ csr_matrix(unscored[None])
    return (barred + task.filtered[split] if split in task.filtered else barred).tocsr()


def _near_misses(
    label: int, barred: set[int], space: LabelSpace, index: LabelIndex, document: Float[np.ndarray, " d"], n: int
) -> list[int]:
    """A gold label's near misses that are not barred, nearest to the document first; n at most."""
    if n == 0:
        return []
    bound = n + len(barred) if space.parents is None and space.exclusions is None else len(space)
    near = space.near_misses([label], bound, index=index).tolist()
    misses = np.array([miss for miss in near if miss not in barred], np.int32)
    if not len(misses):
        return []
    return misses[np.argsort(-(index.vectors(misses) @ document), kind="stable")][:n].tolist()
