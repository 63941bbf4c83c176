"""Phases exchanged in the text: what each beginning holds, and what is counted."""

import numpy as np
import pytest

from ctd.data.label_space import LabelSpace
from ctd.mechanism import factorial, text_factorial
from ctd.mechanism.text_factorial import FIRST, SECOND, Replaced, beginning
from ctd.reasoning import trace_parser, traces
from ctd.reasoning.rank_answers import Prediction

SPACE = LabelSpace("fruit", list("abcdef"), ["apple", "pear", "plum", "fig", "kiwi", "lime"], 6)


def trace(shortlist, pairs, answer, topics="fruit"):
    lines = [
        f"{traces.mark(gold)} rather than {traces.mark(near)}, given {traces.quote('sweet')}." for gold, near in pairs
    ]
    return trace_parser.parse(traces.write(topics, shortlist, lines, answer), SPACE, "1", "a document")


OWN = trace(["apple", "pear", "plum"], [("apple", "pear"), ("plum", "apple")], ["apple"])
OTHER = trace(["fig", "kiwi"], [("kiwi", "fig")], ["kiwi"], "others")


def predicted(text, *ranking):
    return Prediction(text, ranking, ranking, 1, True, len(ranking), len(ranking))


def test_own_phases_are_the_text_itself_up_to_its_answer():
    assert OWN.text.startswith(beginning(OWN, OTHER, "own", "own"))
    assert OWN.text.removeprefix(beginning(OWN, OTHER, "own", "own")) == "- apple\n"
    assert OWN.text.startswith(beginning(OWN, OTHER, "own", "free"))
    assert beginning(OWN, OTHER, "own", "free").endswith("- plum\nCompare:\n")


@pytest.mark.parametrize("second", SECOND)
def test_nothing_of_the_own_first_phase_is_left_in_anothers(second):
    text = beginning(OWN, OTHER, "another's", second)
    assert text.startswith("<think>\nTopics: others\nShortlist:\n- fig\n- kiwi\nCompare:\n")
    assert "Topics: fruit" not in text
    assert "- pear" not in text


@pytest.mark.parametrize("first", FIRST)
def test_comparisons_are_kept_swapped_left_out_or_left_to_the_model(first):
    unswapped, swapped = (beginning(OWN, OTHER, first, second) for second in ("own", "swapped"))
    assert '[[apple]] rather than [[pear]], given "sweet".\n[[plum]] rather than [[apple]]' in unswapped
    assert '[[pear]] rather than [[apple]], given "sweet".\n[[apple]] rather than [[plum]]' in swapped
    assert unswapped.endswith("</think>\nAnswer:\n")
    none = beginning(OWN, OTHER, first, "none")
    assert "[[" not in none
    assert none.endswith("Answer:\n")
    assert traces.CLOSE not in beginning(OWN, OTHER, first, "free")


@pytest.mark.parametrize(
    ("first", "second"), [(f, s) for f in ("own", "another's") for s in ("own", "swapped", "none")]
)
def test_what_begins_in_the_format_can_be_read_in_it(first, second):
    read = trace_parser.parse(beginning(OWN, OTHER, first, second) + "- plum\n", SPACE)
    assert read.shortlisted == ((0, 1, 2) if first == "own" else (3, 4))
    compared = {"own": [(0, 1), (2, 0)], "swapped": [(1, 0), (0, 2)], "none": []}[second]
    assert [comparison.labels for comparison in read.comparisons] == compared


def test_a_decision_follows_a_swap_where_the_other_label_is_answered_instead():
    cells = {("own", "free"): [predicted(OWN, 0)] * 3 + [predicted(OTHER, 4)]}
    cells["own", "own"] = [predicted(OWN, 0)] * 2 + [predicted(OWN, 0, 1, 2), predicted(OTHER, 4)]
    cells["own", "swapped"] = [predicted(OWN, 1), predicted(OWN, 1, 2), predicted(OWN, 1), predicted(OTHER, 4)]
    replaced = Replaced([0, 1, 2, 3], None, cells)
    np.testing.assert_allclose(replaced.follows_swap(), [0.5, 1.0, 0.0])


def test_what_is_lost_is_the_paired_difference_of_two_cells():
    gains = np.random.default_rng(0).random((30, 3, 4))
    scored = factorial.Factorial(gains, np.ones(30), FIRST, SECOND)
    lost = Replaced([], None, {}).lost(scored).set_index("name")["value"]
    assert lost["Phase 1"] == pytest.approx((gains[:, 0, 0] - gains[:, 1, 0]).mean())
    assert lost["Phase 2"] == pytest.approx((gains[:, 0, 1] - gains[:, 0, 3]).mean())


def test_with_fewer_than_two_texts_in_the_format_there_is_nothing_to_exchange():
    broken = [predicted(OWN, 0), predicted(traces.Trace("2", "", "nothing", (), error="line 1"), 0)]
    assert text_factorial.replace_phases(None, None, None, broken, 10) is None
