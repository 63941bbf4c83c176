"""Corrupted twins: what changes, that they are as long, and who has none."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctd.mechanism import corruptions
from ctd.reasoning.token_spans import Span
from tests.mechanism.test_heads import PASSAGES

RNG = np.random.default_rng(0)
SENTENCES = (Span(2, 6), Span(6, 9), Span(9, 15))
LINES = (Span(20, 22), Span(22, 25))
WHOLE = [replace(trace, sentences=SENTENCES, shortlist=LINES) for trace in PASSAGES]


def test_anchors_words_are_replaced_token_for_token():
    trace, other = PASSAGES[0], PASSAGES[3]
    corrupted = corruptions.corrupt(trace, other, "anchors", RNG)
    assert len(corrupted.ids) == len(trace.ids)
    changed = [place for place, pair in enumerate(zip(trace.ids, corrupted.ids, strict=True)) if pair[0] != pair[1]]
    assert set(changed) <= {4, 5, 9}
    foreign = [other.ids[4], other.ids[5], other.ids[9]]
    assert [corrupted.ids[place] for place in (4, 5, 9)] == foreign
    short = replace(other, anchor_mentions=(Span(4, 5),))
    again = corruptions.corrupt(trace, short, "anchors", RNG)
    assert [again.ids[place] for place in (4, 5, 9)] == [other.ids[4]] * 3


@pytest.mark.parametrize(("corruption", "pieces"), [("sentences", SENTENCES), ("shortlist", LINES)])
def test_sentences_and_lines_change_places_and_the_length_stays(corruption, pieces):
    trace = WHOLE[0]
    texts = [trace.ids[slice(*piece)] for piece in pieces]
    orders = set()
    for seed in range(20):
        corrupted = corruptions.corrupt(trace, WHOLE[1], corruption, np.random.default_rng(seed))
        start, end = pieces[0].start, pieces[-1].end
        assert len(corrupted.ids) == len(trace.ids)
        assert corrupted.ids[:start] + corrupted.ids[end:] == trace.ids[:start] + trace.ids[end:]
        rest, order = corrupted.ids[start:end], []
        while rest:
            place = next(n for n, text in enumerate(texts) if n not in order and rest[: len(text)] == text)
            order.append(place)
            rest = rest[len(texts[place]) :]
        assert all(place != stood for place, stood in enumerate(order))
        assert Counter(corrupted.ids) == Counter(trace.ids)
        orders.add(tuple(order))
    assert len(orders) == (2 if corruption == "sentences" else 1)


def test_a_swapped_document_is_cut_or_repeated_to_the_same_length():
    trace, other = WHOLE[0], WHOLE[1]
    short = replace(other, document=Span(2, 7))
    assert corruptions.corrupt(trace, other, "document", RNG).ids == (*trace.ids[:2], *other.ids[2:15], *trace.ids[15:])
    repeated = (*other.ids[2:7], *other.ids[2:7], *other.ids[2:5])
    assert corruptions.corrupt(trace, short, "document", RNG).ids == (*trace.ids[:2], *repeated, *trace.ids[15:])
    longer = replace(other, document=Span(2, 20))
    assert corruptions.corrupt(trace, longer, "document", RNG).ids == (
        *trace.ids[:2],
        *other.ids[2:15],
        *trace.ids[15:],
    )


@pytest.mark.parametrize(
    ("corruption", "lacking"),
    [
        ("anchors", {"anchor_mentions": ()}),
        ("sentences", {"sentences": (Span(2, 15),)}),
        ("document", {"document": Span(0, 0)}),
        ("shortlist", {"shortlist": LINES[:1]}),
    ],
)
def test_every_document_has_a_twin_and_those_that_cannot_are_counted(corruption, lacking):
    without = replace(WHOLE[1], **lacking)
    pairs, left_out = corruptions.pairs([*WHOLE, without], corruption=corruption)
    assert left_out == 1
    assert [clean.uid for clean, _ in pairs] == ["d0", "d1", "d2", "d3"]
    for clean, corrupted in pairs:
        assert corrupted.uid == clean.uid
        assert corrupted.ids != clean.ids
    assert pairs == corruptions.pairs([*WHOLE, without], corruption=corruption)[0]
    with pytest.raises(
        ValueError, match=f"{corruption}.*needs two documents or more, got 1 .*{corruptions.LEFT_OUT[corruption]}"
    ):
        corruptions.pairs([WHOLE[0], without], corruption=corruption)


def test_another_corruption_is_refused():
    with pytest.raises(ValueError, match="must be one of anchors, sentences, document, shortlist, got 'all'"):
        corruptions.pairs(WHOLE, corruption="all")
