"""Labels are found where a text names them, the longest first."""

import numpy as np

from ctd.reasoning.label_search import mentions
from ctd.reasoning.traces import Mention
from tests.reasoning.test_traces import named


def test_the_longest_label_wins_and_one_that_punctuation_tells_apart_is_known_by_it():
    space = named(["Heart", "Heart Failure", "Heart Failure, Systolic", "|- ( A + B )", "|- ( A - B )", "A B C"])
    mentioned = mentions("heart failure systolic; heart failure; Heart. |- ( A - B ) and |- ( A + B ) C", space)
    assert [mention.label for mention in mentioned] == [2, 1, 0, 4, 5]
    assert mentions("|- ( A + B )", space) == [Mention(3, 0, 12)]
    assert [m.label for m in mentions("x A B", space)] == [3]


def test_mentions_agree_with_a_loop_over_the_labels():
    rng = np.random.default_rng(1)
    words = ["heart", "left", "acute", "of", "the"]
    space = named(sorted({" ".join(rng.choice(words, rng.integers(1, 5))) for _ in range(40)}))
    for _ in range(100):
        spoken = list(rng.choice([*words, "gap"], 30))
        expected, row = [], 0
        while row < len(spoken):
            fits = [t for t in space.texts if spoken[row : row + len(t.split())] == t.split()]
            longest = max(fits, key=lambda t: len(t.split()), default=None)
            if longest:
                expected.append(space.texts.index(longest))
            row += len(longest.split()) if longest else 1
        assert [mention.label for mention in mentions(" ".join(spoken), space)] == expected
