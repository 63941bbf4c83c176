"""Beginnings of a chain of thought, embedded; controls by shuffling and swapping."""

import itertools

import numpy as np
import pytest

from ctd.mechanism import cot_prefixes
from ctd.mechanism.curve_means import GRID
from ctd.mechanism.untestable import NotTestable
from ctd.reasoning import trace_parser, traces
from tests.mechanism.conftest import COTS, trace


class TestPrefixes:
    def test_end_at_the_last_whole_word_within_each_share_of_the_characters(self):
        cot = "aa bbbb\ncc d"
        for t, prefix in zip(GRID, cot_prefixes.prefixes(cot), strict=True):
            heads = [cot[:end] for end in range(int(t * 12 + 1e-9) + 1)]
            whole = [head for head in heads if head.split() == cot.split()[: len(head.split())]]
            assert prefix.split() == max(whole, key=lambda head: len(head.split())).split(), t
        assert cot_prefixes.prefixes(cot, [0, 0.5, 1]) == ["", "aa", cot]

    def test_a_word_that_ends_exactly_at_t_is_whole(self):
        assert cot_prefixes.prefixes("a b c d e.", np.array([0.1, 0.3, 0.7, 1])) == [
            "a",
            "a b",
            "a b c d",
            "a b c d e.",
        ]

    def test_of_nothing_are_nothing(self):
        assert cot_prefixes.prefixes("", [0, 1]) == cot_prefixes.prefixes(" \n", [0, 1]) == ["", ""]

    @pytest.mark.parametrize(
        ("grid", "line"),
        [
            ([0, 0.5, 0.5], "grid must increase, got 0.5 before 0.5"),
            ([0.2, 0.1], "grid must increase, got 0.2 before 0.1"),
            ([0, 1.5], r"grid must lie in \[0, 1\], got 0 to 1.5"),
            ([np.nan], r"grid must lie in \[0, 1\]"),
            ([], "at least 1 point"),
        ],
    )
    def test_grids_that_are_none(self, grid, line):
        with pytest.raises(ValueError, match=line):
            cot_prefixes.prefixes("a b", np.array(grid))


class TestControls:
    def test_shuffling_keeps_the_lines_and_drops_the_marks(self, space):
        lines = ["Liver", "Left heart", "Right heart", "Calcium"]
        sentences = ["[[Liver]], not [[Left heart]].", "[[Calcium]], not [[Liver]]."]
        marked = trace_parser.parse(traces.write("organs", lines, sentences, ["Liver"]), space)
        mixed = cot_prefixes.shuffled(marked, np.random.default_rng(0))
        assert mixed.cot != marked.cot
        assert sorted(mixed.cot.split("\n")) == sorted(marked.cot.split("\n"))
        assert mixed.boundary is None
        assert mixed.comparisons == mixed.mentions == ()
        assert (mixed.uid, mixed.document, mixed.answer) == (marked.uid, marked.document, marked.answer)
        assert cot_prefixes.shuffled(marked, np.random.default_rng(0)) == mixed

    def test_every_order_of_the_lines_comes_up(self):
        rng = np.random.default_rng(0)
        assert len({cot_prefixes.shuffled(trace("a\nb\n\nc"), rng).cot for _ in range(100)}) == 6

    def test_a_single_line_is_shuffled_by_sentences(self):
        orders = {cot_prefixes.shuffled(trace("One. Two! Three"), np.random.default_rng(s)).cot for s in range(60)}
        assert orders == {" ".join(order) for order in itertools.permutations(["One.", "Two!", "Three"])}

    def test_without_a_cot_nothing_changes(self):
        assert cot_prefixes.shuffled(trace(""), np.random.default_rng(0)).cot == ""

    def test_no_document_keeps_its_own_cot_and_each_is_used_once(self):
        rng = np.random.default_rng(0)
        for n in (2, 3, 7):
            answers = [trace(f"cot {row}") for row in range(n)]
            orders = {tuple(cot_prefixes.of_other_documents(answers, rng)) for _ in range(60)}
            for order in orders:
                assert sorted(order) == list(range(n))
                assert all(row != place for place, row in enumerate(order))
            assert n > 3 or len(orders) == n - 1  # all derangements of 2 and of 3

    def test_what_has_no_cot_takes_no_part(self):
        answers = [trace("a"), trace(""), trace("b"), trace("c")]
        order = cot_prefixes.of_other_documents(answers, np.random.default_rng(0))
        assert order[1] == 1
        assert sorted(order) == [0, 1, 2, 3]
        assert (order[[0, 2, 3]] != [0, 2, 3]).all()

    @pytest.mark.parametrize("answers", [[], [trace("a")], [trace("a"), trace("")]])
    def test_one_document_has_no_other(self, answers):
        with pytest.raises(NotTestable, match=f"at least 2 traces with a CoT, got {min(len(answers), 1)}"):
            cot_prefixes.of_other_documents(answers, np.random.default_rng(0))

    def test_anothers_cot_is_scored_without_embedding_it_anew(self, written, goals, encoder, space):
        order = np.array([1, 2, 0])
        anew = cot_prefixes.embed_prefixes([trace(COTS[row]) for row in order], encoder).towards(goals)
        calls = encoder.calls
        swapped = written.swapped(order).towards(goals)
        assert encoder.calls == calls
        np.testing.assert_allclose(swapped.focus, anew.focus)
        np.testing.assert_allclose(swapped.margin, anew.margin)
        unswapped = written.towards(goals)
        assert unswapped.focus[:, -1].mean() > swapped.focus[:, -1].mean()
