"""How far two readings agree, and how well the rules find what they marked: against scikit-learn and by hand."""

from itertools import chain

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, precision_recall_fscore_support

from ctd import stats
from ctd.data.label_space import LabelSpace
from ctd.recipes import natural_marks, natural_rules
from ctd.recipes import reading_agreement as agreement
from ctd.recipes.natural_marks import KINDS, SheetText, TextMarks

LETTERS = list(KINDS)


def drawn(rng, lengths):
    return [TextMarks("".join(rng.choice(LETTERS, length)), None) for length in lengths]


@pytest.fixture
def two():
    """Two readings of 12 texts; where a coin says so, the second says what the first does."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 12)
    first, second = drawn(rng, lengths), drawn(rng, lengths)
    copied = [
        TextMarks("".join(x if rng.random() < 0.6 else y for x, y in zip(a.kinds, b.kinds, strict=True)), None)
        for a, b in zip(first, second, strict=True)
    ]
    return first, copied


def sentences(reading, repeats=None):
    """The letters of all sentences, a text's as often as `repeats` says."""
    repeats = [1] * len(reading) if repeats is None else repeats.astype(int)
    return list(chain.from_iterable(text.kinds * times for text, times in zip(reading, repeats, strict=True)))


def test_kappas_are_those_of_scikit_learn(two):
    a, b = map(sentences, two)
    kappas = agreement.kappas(*two)
    assert kappas[""].estimate == pytest.approx(cohen_kappa_score(a, b))
    for kind in KINDS:
        is_kind = [[letter == kind for letter in letters] for letters in (a, b)]
        assert kappas[kind].estimate == pytest.approx(cohen_kappa_score(*is_kind))
    assert agreement.same_kind(*two).estimate == pytest.approx(np.mean(np.array(a) == np.array(b)))


def test_the_interval_of_kappa_resamples_texts(two):
    def each(weights):
        return np.array([[cohen_kappa_score(*(sentences(reading, row) for reading in two))] for row in weights])

    expected = stats.bootstrap_weighted(each, len(two[0]), draws=60)
    kappa = agreement.kappas(*two, draws=60)[""]
    assert kappa.low == pytest.approx(expected.low.item())
    assert kappa.high == pytest.approx(expected.high.item())


def test_readings_that_are_one_agree_whole_and_an_unused_kind_has_no_kappa():
    readings = [TextMarks("CJL", 2), TextMarks("JLC", None)]
    kappas = agreement.kappas(readings, readings)
    assert [kappas[kind].estimate for kind in ("", "C", "J", "L")] == [1, 1, 1, 1]
    assert np.isnan(kappas["A"].estimate)


def test_precision_recall_and_f1_are_those_of_scikit_learn(two):
    by_rule, truth = [text.kinds for text in two[0]], two[1]
    for kind in ("C", "J"):
        expected = precision_recall_fscore_support(
            sentences(truth), sentences(two[0]), labels=[kind], average=None, zero_division=0
        )
        scores = agreement.rule_scores(kind, by_rule, truth)
        np.testing.assert_allclose(scores.estimate, np.ravel(expected[:3]))


def test_sentences_without_a_common_kind_or_behind_the_answer_do_not_count():
    a, b = [TextMarks("JCAJ", 2), TextMarks("NJN", 1)], [TextMarks("JLAJ", 2), TextMarks("NJJ", None)]
    both, same_boundary = agreement.agreed(a, b)
    assert [text.kinds for text in both] == ["J?AJ", "NJ?"]
    assert same_boundary.tolist() == [True, False]
    assert [text.kinds for text in agreement.before_the_answer(a)] == ["JC??", "NJN"]
    scores = agreement.rule_scores("J", ["JJ-J", "-J-"], both)  # 3 hits; the other J has no common kind
    np.testing.assert_allclose(scores.estimate, [1, 1, 1])
    scores = agreement.rule_scores("J", ["JJ-J", "---"], agreement.before_the_answer(a))
    np.testing.assert_allclose(scores.estimate, [1 / 2, 1 / 2, 1 / 2])


def test_boundaries_by_hand():
    measured = agreement.boundaries([1, 2, None, None, 9], [2, 5, None, 3, 9])
    values = {name: interval.estimate for name, interval in measured.items()}
    assert values == pytest.approx(
        {"both or neither": 4 / 5, "both": 3 / 5, "within one sentence": 2 / 3, "sentences apart": 4 / 3}
    )
    nowhere = agreement.boundaries([1, None], [None, 2])
    assert np.isnan(nowhere["sentences apart"].estimate)


@pytest.mark.parametrize(
    ("text", "kinds", "boundary"),
    [
        ("Hm.\nGout fits. Asthma fits less than gout. Cough is hard.\n\nLabels:\n- Gout", "-JC---", 3),
        ("Labels: Gout\n\nThis label fits gout.", "--", None),
        ("1. Gout: matches.\n2. Asthma: not mentioned.\n3. Again gout.\nLabels: Gout", "JJ--", 2),
    ],
)
def test_what_the_rules_say_of_sentences(text, kinds, boundary):
    texts = ["Gout", "Asthma"]
    (marks,) = natural_rules.marks(
        [SheetText(1, "x-00", tuple(natural_marks.pieces(text)))], LabelSpace("two", texts, texts, 2)
    )
    assert marks.kinds == kinds
    assert marks.boundary == boundary


def test_the_breakpoint_is_where_labels_stop_coming():
    texts = [f"Gout{letter}" for letter in "abcdefghij"]
    rise = "".join(f"{text} is one of many. " for text in texts)
    flat = "Nothing new is in here. " * len(texts)
    cases = {rise + flat: 10, flat + rise: 10, "Nothing is in here. ": None}
    for text, number in cases.items():
        parts = tuple(natural_marks.pieces(text + "\nLabels: Gouta"))
        (marks,) = natural_rules.marks([SheetText(1, "x-00", parts)], LabelSpace("ten", texts, texts, 10))
        assert marks.breakpoint == number or abs(marks.breakpoint - number) <= 1
