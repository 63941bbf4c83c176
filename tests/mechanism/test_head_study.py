"""What chapters 04 and 05 share: a phase's heads scored on what a teacher wrote, and what the scores say."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ctd.mechanism import attention, head_study, heads, scores, trials
from ctd.mechanism.head_study import Settings
from ctd.mechanism.phases import Phase
from ctd.mechanism.untestable import NotTestable
from ctd.stats import Interval
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES


@pytest.fixture
def teacher():
    return SimpleNamespace(language_model=SimpleNamespace(model=build_model("llama"), tokenizer=object()))


@pytest.fixture
def task(monkeypatch):
    """Four test documents, of which one is too long and one never mentions its anchor."""
    silent = replace(PASSAGES[1], anchor_mentions=())
    monkeypatch.setattr(head_study.predict, "reason", lambda *_, **__: [])
    monkeypatch.setattr(
        head_study.annotate, "annotate_task", lambda *_: ([PASSAGES[0], silent, PASSAGES[2]], {"too long": 1})
    )
    return SimpleNamespace(documents={"test": {"text": [], "uid": []}})


@pytest.mark.parametrize("phase", Phase)
def test_a_study_says_what_the_scores_say(teacher, task, phase):
    study = head_study.study(teacher, task, None, Settings(phase, n_scored=2, n_top=5, seed=3))
    scored = heads.score(teacher.language_model.model, study.traces[:2])
    name = scores.PAPER[phase]
    assert study.score == name
    assert study.scored.uids == ("d0", "d1")
    assert study.left_out == {"too long": 1}
    assert study.ranking == scored.ranking(name)
    assert study.n_layers == 3
    assert list(study.maps()) == list(scores.names(phase)[:3])
    assert study.instead == ""
    np.testing.assert_array_equal(study.maps()[name], scored.mean(name).estimate)
    assert study.top().equals(scored.top(name, 5, 3))
    groups = {"top 5": study.ranking[:5], "all heads": attention.all_heads(teacher.language_model.model)}
    assert study.course().equals(scored.course(name, groups, 3))
    assert study.depth(name).scalar == scored.depth(name, 5, seed=3).scalar


def test_documents_that_never_mention_their_anchor_are_left_out_where_it_gives_the_direction(teacher, task):
    study = head_study.study(teacher, task, None, Settings(Phase.SHORTLIST, direction="mentions"))
    assert study.scored.uids == ("d0", "d2")
    assert study.left_out == {"too long": 1, head_study.SILENT: 1}


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.1, 0.2, "earlier than"), (0.8, 0.9, "later than"), (0.55, 0.65, "neither earlier nor later than")],
)
def test_a_depth_is_held_against_heads_at_random(low, high, says):
    interval = Interval(*(np.array(value) for value in ((low + high) / 2, low, high)))
    random = Interval(np.array(0.5), np.array(0.37), np.array(0.63))
    assert head_study.against_random(interval, random) == f"{says} heads at random"


def test_a_study_without_traces_says_so(teacher, task, monkeypatch):
    left_out = {"no CoT": 3, "no anchor": 0, "longer than the model's context": 1}
    monkeypatch.setattr(head_study.annotate, "annotate_task", lambda *_: ([], left_out))
    with pytest.raises(NotTestable, match=r"no text has any \(no CoT: 3; longer than the model's context: 1\)$"):
        head_study.study(teacher, task, None, Settings(Phase.SHORTLIST))


def test_heads_that_refine_are_not_ranked_by_a_single_text_that_compares(teacher, task, monkeypatch):
    traces = [PASSAGES[0], *(replace(trace, comparisons=(), judgements=()) for trace in PASSAGES[1:])]
    monkeypatch.setattr(head_study.annotate, "annotate_task", lambda *_: (traces, {}))
    monkeypatch.setattr(heads, "score", lambda *_, **__: pytest.fail("heads were scored"))
    with pytest.raises(NotTestable, match=rf"1 of {len(traces)} texts with phases do, and at least 2 must$"):
        head_study.study(teacher, task, None, Settings(Phase.REFINE))
    with pytest.raises(NotTestable, match="0 of 1 texts with phases do, and at least 1 must$"):
        trials.trial(teacher.language_model.model, traces[1:], 1, 1)
    with pytest.raises(NotTestable, match="needs two documents or more, got 0"):
        trials.trial(teacher.language_model.model, traces, len(traces), 1)


def test_heads_are_ranked_by_judgements_of_one_label_where_a_single_text_compares(teacher, task, monkeypatch):
    traces = [PASSAGES[0], *(replace(trace, comparisons=()) for trace in PASSAGES[1:])]
    monkeypatch.setattr(head_study.annotate, "annotate_task", lambda *_: (traces, {}))
    study = head_study.study(teacher, task, None, Settings(Phase.REFINE, n_top=5))
    assert study.score == scores.VERDICT
    assert study.instead.endswith(f"1 of {len(traces)} texts with phases do, and at least 2 must")
    assert study.ranking == heads.score(teacher.language_model.model, traces).ranking(scores.VERDICT)
    assert list(study.maps()) == [scores.VERDICT, scores.JUDGED_GAIN, scores.ON_EVIDENCE]
    told = set(study.depths(scores.COARSE)["score"])
    assert told == {scores.VERDICT, scores.JUDGED_GAIN, scores.ON_EVIDENCE, scores.COARSE}, "one text is no interval"
    assert set(study.top()["n"]) == {len(traces)}
