"""A chapter's answer is what the ledger's rules say of its own numbers, and names what they need of another chapter."""

from types import SimpleNamespace

import pytest

from ctd.book import own_verdicts
from ctd.book.recorder import Recorder
from ctd.book.setup import Chapter
from ctd.book.verdicts import Verdict
from ctd.mechanism.phases import Phase

OVER = {"interval_over": "documents", "n": 64}


@pytest.fixture
def chapter(tmp_path):
    settings = SimpleNamespace(model_dump=lambda: {"dataset": "mesh", "teacher": "smollm2-mesh"})
    return Chapter(settings, Recorder(tmp_path))


def depth(chapter, value):
    run = chapter.run
    run.record("mean_depth", value, "-", (value - 0.05, value + 0.05), **OVER, score="CoarseScore", heads="top")
    run.record("mean_depth", 0.5, "-", (0.37, 0.63), interval_over="sets of heads", n=2000, heads="random")


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.2, Verdict.REPRODUCED), (0.8, Verdict.CONTRADICTED), (0.42, Verdict.INCONCLUSIVE)],
)
def test_it_is_judged_by_its_own_numbers_and_says_what_another_chapter_has_to_show(chapter, value, verdict):
    depth(chapter, value)
    (row,) = rows = own_verdicts.judge(chapter, "shortlisting-heads-early")
    assert row.verdict == verdict
    sentence = own_verdicts.sentence(rows)
    conditional = f"is **{verdict}** if chapter 07 finds that the instruments work, otherwise **not testable**"
    assert conditional in sentence
    assert conditional in own_verdicts.short(rows)
    assert row.why in sentence
    assert not row.why or row.why not in own_verdicts.short(rows)
    assert row.claim.needs, "the claim is the ledger's, with all that it needs"


def test_a_precondition_of_its_own_that_fails_makes_it_not_testable_and_nothing_else(chapter):
    for phase in Phase:
        which = {"effect": "lost", "phase": phase, "control": "text replaced"}
        chapter.run.record("ndcg@5", 0.5, "-", (0.4, 0.6), interval_over="documents", n=12, **which)
    (row,) = rows = own_verdicts.judge(chapter, "complementary")
    assert row.verdict == Verdict.NOT_TESTABLE
    assert "n = 12" in own_verdicts.sentence(rows)
    assert "otherwise" not in own_verdicts.sentence(rows)
    assert own_verdicts.short(rows).endswith("is **not testable**.")


def test_without_numbers_there_is_no_verdict_and_no_sentence(chapter):
    assert own_verdicts.judge(chapter, "las", "complementary") == []
    assert own_verdicts.sentence([]) == own_verdicts.short([]) == ""
    with pytest.raises(ValueError, match="a claim must be one of focus-rises-early, .*, got 'none-such'"):
        own_verdicts.judge(chapter, "none-such")
