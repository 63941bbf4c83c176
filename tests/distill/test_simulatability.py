"""LAS against a count by items and scipy's bootstrap; explanations that leak, add nothing, or help beside x."""

import itertools
from dataclasses import asdict, dataclass

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import expit
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.utils.class_weight import compute_sample_weight

from ctd.data.label_space import LabelSpace
from ctd.distill import explanations
from ctd.distill import simulatability as sim
from ctd.distill.ablations import ablated
from ctd.distill.losses import Weights
from ctd.distill.methods import Arm
from ctd.distill.simulator import Simulator, features
from ctd.reasoning.label_search import mentions

WORDS = ["aorta", "bone", "calcium", "dialysis", "eye", "fever", "gland", "heart", "iron", "joint", "kidney", "liver"]
N_DOCUMENTS, N_CANDIDATES = 60, 6


@dataclass
class Scripted:
    """A simulator that says what it was told to, by what is shown."""

    scores: dict
    which: str

    def predict(self, measured, shown="xe"):
        return self.scores[shown]


def scripted(rng, n=40, which="labels"):
    """Random candidates, answers among them (some empty), and scores that know a little of them."""
    candidates = [rng.permutation(12)[: rng.integers(2, 7)].tolist() for _ in range(n)]
    answers = [labels[: rng.integers(0, 3)] for labels in candidates]
    held = np.array([label in answer for labels, answer in zip(candidates, answers, strict=True) for label in labels])
    knows = {"xe": 2.0, "x": 1.0, "e": 0.8}
    scores = {shown: rng.normal(size=len(held)) + weight * (held - 0.4) for shown, weight in knows.items()}
    return Scripted(scores, which), np.zeros((len(held), 10)), candidates, answers


def las(simulator, measured, candidates, answers, draws=1000):
    return sim.of_sums(sim.item_sums(simulator, measured, candidates, answers)[None], draws)


def by_item(simulator, candidates, answers):
    """(document, right with x and e, right with x, leaks) of each item, counted with plain loops."""
    items, start = [], 0
    for row, (labels, answer) in enumerate(zip(candidates, answers, strict=True)):
        scores = {
            s: dict(zip(labels, values[start : start + len(labels)], strict=True))
            for s, values in simulator.scores.items()
        }
        start += len(labels)
        if simulator.which == "labels":
            for label in labels:
                items.append((row, *((scores[s][label] > 0) == (label in answer) for s in ("xe", "x", "e"))))
        elif answer:
            items.append((row, *(max(scores[s], key=scores[s].get) == answer[0] for s in ("xe", "x", "e"))))
    return items


def hase(items):
    """The formula, word by word: the mean over the bins of the mean of the gap."""
    gaps = [[int(both) - int(x) for _, both, x, leaks in items if leaks == bin] for bin in (False, True)]
    return np.mean([np.mean(gap) for gap in gaps]) if all(gaps) else np.nan


def drawn(rng, document, explanation, answered, n=N_DOCUMENTS):
    """n documents whose candidates are drawn; three functions of what was drawn say what is written and answered."""
    documents, explanations, candidates, answers = [], [], [], []
    for _ in range(n):
        labels = rng.permutation(len(WORDS))[:N_CANDIDATES].tolist()
        in_x, in_e = (rng.permutation(labels)[:3].tolist() for _ in range(2))
        answer = answered(in_x, in_e)
        documents.append(" ".join(["patient", "with", *document(in_x)]))
        explanations.append(" ".join(["we", "weigh", *explanation(in_x, in_e, answer)]))
        candidates.append(labels)
        answers.append(answer)
    return documents, explanations, candidates, answers


def words(labels):
    return [WORDS[label] for label in labels]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def twelve():
    return LabelSpace("twelve", WORDS, WORDS, len(WORDS))


@pytest.fixture
def study(rng, twelve, encoder, own_cache):
    """LAS of such explanations on 60 documents, by a simulator trained on 60 others."""

    def run(document, explanation, answered, which="labels"):
        parts = []
        for _ in range(2):
            texts, explanations, candidates, answers = drawn(rng, document, explanation, answered)
            measured = features(texts, explanations, candidates, twelve, encoder)
            parts.append((measured, candidates, answers))
        return las(Simulator.fit(*parts[0], which), *parts[1], draws=200)

    return run


class TestFeatures:
    def test_by_hand(self, space, encoder, own_cache):
        text = "calcium in the Calcium/blood"
        columns = features([text], ["Liver; liver, left"], [[0, 2, 5, 3]], space, encoder)
        cosines = encoder.vectors([space.texts[label] for label in (0, 2, 5, 3)]) @ encoder.vectors([text])[0]
        np.testing.assert_allclose(columns[:, 0], cosines, atol=1e-6)
        assert columns[:, 1].tolist() == [1.0, 1.0, 0.0, 0.0]
        assert columns[:, 2].tolist() == [0.0, 1.0, 0.0, 0.0], "'calcium' is no 'Calcium', nor is 'Calcium/blood'"
        np.testing.assert_allclose(columns[:, 3], [7 / 28, 1.0, 0.0, 0.0])
        np.testing.assert_allclose(columns[:, 4], np.log([2, 2, 1, 1]))
        np.testing.assert_allclose(columns[:, 6], [0.0, 0.0, 0.5, 1.0])
        np.testing.assert_allclose(columns[3, 7:], [1.0, 12 / 18, np.log(3)])

    def test_both_texts_are_asked_the_same(self, space, encoder, own_cache):
        texts = ["a Liver", "the left heart fails"]
        columns = features(texts, texts, [[0, 3], [5, 6, 4]], space, encoder)
        np.testing.assert_array_equal(columns[:, :5], columns[:, 5:])
        assert columns.shape == (5, 10)

    def test_an_empty_explanation_is_zeros(self, space, encoder, own_cache):
        assert not features(["a Liver"], [""], [[0, 3]], space, encoder)[:, 5:].any()

    @pytest.mark.parametrize(
        ("documents", "explanations", "candidates", "line"),
        [
            ([], [], [], "at least 1 document, got 0"),
            (["a"], ["b", "c"], [[0]], "explanations need one entry a document, got 2, and candidates of 1"),
            (["a", "b"], ["b", "c"], [[0], []], r"document 1 needs at least 1 candidate, and none twice, got \[\]"),
            (["a"], ["b"], [[0, 3, 0]], r"none twice, got \[0, 3, 0\]"),
            (["a"], ["b"], [[0, 7]], "labels of 'tiny' run from 0 to 6, got 7"),
        ],
    )
    def test_bad_input(self, space, encoder, documents, explanations, candidates, line):
        with pytest.raises(ValueError, match=line):
            features(documents, explanations, candidates, space, encoder)


class TestSimulator:
    @pytest.fixture
    def trained(self, rng):
        """Trained where the label is answered if the first features of x and of e are together above 1."""
        measured = rng.normal(size=(600, 10))
        held = (measured[:, 0] + measured[:, 5] > 1).reshape(100, 6)
        candidates = [list(range(6))] * 100
        return Simulator.fit(measured, candidates, [np.flatnonzero(row).tolist() for row in held]), measured, held

    @pytest.mark.parametrize(("shown", "hidden"), [("x", slice(5, 10)), ("e", slice(0, 5))])
    def test_what_is_not_shown_is_not_seen(self, trained, shown, hidden):
        simulator, measured, _ = trained
        blind = measured.copy()
        blind[:, hidden] = np.nan
        np.testing.assert_array_equal(simulator.predict(blind, shown), simulator.predict(measured, shown))
        assert np.ptp(simulator.predict(measured, shown)) > 1

    @pytest.mark.parametrize("shown", ["xe", "x", "e"])
    def test_it_was_trained_on_each_input_alone(self, trained, shown):
        """Hence what it expects is what happens, whatever it is shown."""
        simulator, measured, held = trained
        assert expit(simulator.predict(measured, shown)).mean() == pytest.approx(held.mean(), abs=0.01)

    def test_more_is_better_where_both_matter(self, trained):
        simulator, measured, held = trained
        right = {s: ((simulator.predict(measured, s) > 0) == held.ravel()).mean() for s in ("xe", "x", "e")}
        assert right["xe"] > 0.95
        assert max(right["x"], right["e"]) < 0.9

    def test_the_document_alone_is_read_as_well_as_beside_a_copy(self, rng):
        """What both inputs show must not share its weights: sim(x) would suffer, and LAS be above 0.05."""
        parts = []
        for _ in range(2):
            signal = rng.normal(size=(1200, 1))
            text = np.hstack([signal + rng.normal(size=(1200, 3)), np.zeros((1200, 2))])
            answers = [np.flatnonzero(row).tolist() for row in (signal > 0.8).reshape(100, 12)]
            parts.append((np.hstack([text, text]), [list(range(12))] * 100, answers))
        result = las(Simulator.fit(*parts[0]), *parts[1], draws=2)
        assert result.n_other > 100
        assert result.las.scalar[0] == pytest.approx(0, abs=0.03)

    def test_it_learns_the_first_label_where_that_is_asked(self, rng):
        measured = rng.normal(size=(600, 10))
        order = np.argsort(-measured[:, 0].reshape(100, 6))
        answers = order[:, [1, 0]].tolist()  # the first answer is the second best match
        candidates = [list(range(6))] * 100
        odds = Simulator.fit(measured, candidates, answers, "first").predict(measured)
        assert expit(odds).mean() == pytest.approx(1 / 6, abs=0.01)

    @pytest.mark.parametrize(
        ("shape", "candidates", "answers", "which", "line"),
        [
            ((0, 10), [], [], "labels", "at least 1 document, got 0"),
            ((2, 10), [[0, 1]], [[0], [1]], "labels", "answers need one entry a document, got 2, and candidates of 1"),
            ((2, 10), [[0, 1], []], [[0], [1]], "labels", "document 1 needs at least 1 candidate"),
            ((3, 10), [[0, 1]], [[0]], "labels", r"shape \[items, columns\] = \(2, 10\), got \(3, 10\)"),
            ((2, 5), [[0, 1]], [[0]], "labels", r"= \(2, 10\), got \(2, 5\)"),
            ((2, 10), [[0, 1]], [[0, 1]], "labels", "answered and not, got 2 items, all answered"),
            ((2, 10), [[0, 1]], [[]], "labels", "got 2 items, all not answered"),
            ((2, 10), [[0, 1]], [[4, 0]], "first", "document 0 must hold the first label of its answer, 4"),
            ((2, 10), [[0, 1]], [[0]], "second", "which must be one of labels, first, got 'second'"),
        ],
    )
    def test_bad_input(self, shape, candidates, answers, which, line):
        with pytest.raises(ValueError, match=line):
            Simulator.fit(np.zeros(shape), candidates, answers, which)

    def test_another_input_is_refused(self, trained):
        with pytest.raises(ValueError, match="shown must be one of xe, x, e, got 'ex'"):
            trained[0].predict(trained[1], "ex")


@pytest.mark.parametrize("which", ["labels", "first"])
class TestFormula:
    def test_by_items(self, rng, which):
        for _ in range(20):
            inputs = scripted(rng, 15, which)
            items, result = by_item(inputs[0], *inputs[2:]), las(*inputs, draws=2)
            assert result.las.scalar[0] == pytest.approx(hase(items), nan_ok=True)
            assert result.n_leaking == sum(leaks for *_, leaks in items)
            assert result.n_leaking + result.n_other == len(items)
            for place, shown in enumerate(("xe", "x", "e"), start=1):
                assert result.accuracies[shown].scalar[0] == pytest.approx(np.mean([item[place] for item in items]))
            gaps = (result.leaking.scalar[0] + result.other.scalar[0]) / 2
            assert gaps == pytest.approx(result.las.scalar[0], nan_ok=True)

    def test_balanced_accuracies_are_scikit_learns(self, rng, which):
        if which == "first":
            pytest.skip("items of one class: balanced accuracy is accuracy")
        for _ in range(10):
            inputs = scripted(rng, 15, which)
            scores, candidates, answers = inputs[0].scores, inputs[2], inputs[3]
            held = np.array([x in answer for labels, answer in zip(candidates, answers, strict=True) for x in labels])
            result = las(*inputs, draws=2)
            for shown, values in scores.items():
                assert result.balanced_accuracies[shown].scalar[0] == pytest.approx(
                    balanced_accuracy_score(held, values > 0)
                )
            assert result.majority.scalar[0] == pytest.approx(
                accuracy_score(held, np.full(len(held), held.mean() > 0.5))
            )
            leaks = (scores["e"] > 0) == held
            weights = compute_sample_weight("balanced", held)
            gaps = [
                accuracy_score(held[bin], scores["xe"][bin] > 0, sample_weight=weights[bin])
                - accuracy_score(held[bin], scores["x"][bin] > 0, sample_weight=weights[bin])
                for bin in (leaks, ~leaks)
            ]
            assert result.balanced.scalar[0] == pytest.approx(np.mean(gaps))

    def test_of_one_class_balanced_las_is_las(self, rng, which):
        result = las(*scripted(rng, 30, which), draws=2)
        if which == "first":
            assert result.balanced.scalar[0] == pytest.approx(result.las.scalar[0])
            assert result.majority.scalar[0] == 1
        else:
            assert result.balanced.scalar[0] != pytest.approx(result.las.scalar[0])

    def test_always_no_has_a_balanced_accuracy_of_a_half(self, rng, which):
        inputs = scripted(rng, 30, which)
        silent = Scripted({shown: values * 0 - 1 for shown, values in inputs[0].scores.items()}, "labels")
        result = las(silent, *inputs[1:], draws=2)
        assert result.balanced_accuracies["x"].scalar[0] == pytest.approx(0.5)
        assert result.accuracies["x"].scalar[0] == pytest.approx(result.majority.scalar[0])

    def test_the_interval_is_scipys_over_documents(self, rng, which):
        inputs = scripted(rng, 80, which)
        items = by_item(inputs[0], *inputs[2:])
        by_document = [[item for item in items if item[0] == row] for row in range(80)]
        wanted = scipy_stats.bootstrap(
            (np.arange(80),),
            lambda rows: hase([item for row in rows for item in by_document[row]]),
            vectorized=False,
            n_resamples=1500,
            rng=np.random.default_rng(0),
        ).confidence_interval
        published = las(*inputs, draws=4000).las
        width = wanted.high - wanted.low
        assert published.scalar[1] == pytest.approx(wanted.low, abs=0.08 * width)
        assert published.scalar[2] == pytest.approx(wanted.high, abs=0.08 * width)

    def test_the_order_of_documents_and_candidates_does_not_matter(self, rng, which):
        simulator, measured, candidates, answers = scripted(rng, 30, which)
        result = las(simulator, measured, candidates, answers, draws=2)
        starts = np.cumsum([0, *map(len, candidates)])
        order, rows, listed = rng.permutation(30), [], []
        for row in order:
            within = rng.permutation(len(candidates[row]))
            rows += (starts[row] + within).tolist()
            listed.append([candidates[row][place] for place in within])
        simulator.scores = {shown: values[rows] for shown, values in simulator.scores.items()}
        again = las(simulator, measured, listed, [answers[row] for row in order], draws=2)
        np.testing.assert_array_equal(again.sums, result.sums[order])
        assert again.las.scalar[0] == pytest.approx(result.las.scalar[0])

    def test_a_difference_is_paired(self, rng, which):
        inputs = scripted(rng, 40, which)
        baseline = las(*inputs)
        assert sim.las_difference(baseline, baseline).scalar == (0.0, 0.0, 0.0)
        published = {"measure": "published"}
        first = np.array([label in a[:1] for labels, a in zip(*inputs[2:], strict=True) for label in labels])
        surer = {**inputs[0].scores, "xe": np.where(first, 9.0, inputs[0].scores["xe"])}
        other = las(Scripted(surer, which), *inputs[1:])
        difference = sim.las_difference(other, baseline, **published)
        assert difference.scalar[0] == pytest.approx(other.las.scalar[0] - baseline.las.scalar[0])
        balanced = sim.las_difference(other, baseline)
        assert balanced.scalar[0] == pytest.approx(other.balanced.scalar[0] - baseline.balanced.scalar[0])
        assert difference.scalar[0] > 0
        apart = np.hypot(np.ptp(other.las.scalar[1:]), np.ptp(baseline.las.scalar[1:]))
        assert np.ptp(difference.scalar[1:]) < apart, "what the two share cancels"


@pytest.mark.parametrize("measure", ["balanced", "published"])
def test_gains_of_students_over_documents_and_over_seeds(rng, measure):
    sums = rng.integers(1, 9, (3, 40, 12)).astype(float)
    better = sums.copy()
    better[:, :, [0, 2, 6, 8]] += 2.0
    scored = {"a": sim.of_sums(better), "b": sim.of_sums(sums)}
    table = sim.gains(scored, [("a", "b"), ("b", "b")], measure)
    assert table["name"].tolist() == ["a - b", "b - b"]
    gap = by_hand(better.sum(axis=(0, 1)), measure) - by_hand(sums.sum(axis=(0, 1)), measure)
    assert table["value"].tolist() == pytest.approx([gap, 0.0])
    apart = [
        by_hand(a.sum(axis=0), measure) - by_hand(b.sum(axis=0), measure) for a, b in zip(better, sums, strict=True)
    ]
    wanted = scipy_stats.t.interval(0.95, 2, np.mean(apart), scipy_stats.sem(apart))
    assert table.loc[0, ["seed_low", "seed_high"]].tolist() == pytest.approx(wanted)
    assert table["p"].tolist() == [2 / 10_000, 1.0]
    assert table["p_holm"].tolist() == [4 / 10_000, 1.0]
    assert table["seeds"].tolist() == [3, 0]


@pytest.mark.parametrize("measure", ["balanced", "published"])
def test_exchanged_documents_against_all_exchanges(rng, measure):
    """Six documents have 64 exchanges: the share of those at least as far apart."""
    a, b = (sim.of_sums(rng.integers(1, 9, (1, 6, 12)).astype(float)) for _ in range(2))
    far = []
    for sides in itertools.product((False, True), repeat=6):
        first, second = (
            np.where(np.array(sides)[:, None] ^ swap, a.sums, b.sums).sum(axis=0) for swap in (True, False)
        )
        far.append(by_hand(first, measure) - by_hand(second, measure))
    observed = by_hand(a.sums.sum(axis=0), measure) - by_hand(b.sums.sum(axis=0), measure)
    two_sided = 2 * min(np.mean(np.array(far) >= observed - 1e-12), np.mean(np.array(far) <= observed + 1e-12))
    assert sim.exchange_test(a, b, measure) == pytest.approx(min(1.0, two_sided))


@pytest.mark.parametrize("measure", ["balanced", "published"])
def test_pseudo_values_against_las_without_each_document(rng, measure):
    sums = rng.integers(1, 9, (2, 5, 12)).astype(float)
    values = sim.pseudo_values(sums, measure)
    assert values.mean() == pytest.approx(by_hand(sums.sum(axis=(0, 1)), measure))
    without = np.zeros((2, 5))
    for cell in np.ndindex(2, 5):
        rest = sums.copy()
        rest[cell] = 0
        without[cell] = by_hand(rest.sum(axis=(0, 1)), measure)
    np.testing.assert_allclose(values - values.mean(), 9 * (without.mean() - without))


def test_pseudo_values_are_what_documents_have_where_las_is_a_mean(rng):
    """With as many items in each bin of each document, LAS is the mean of the documents' own."""
    sums = rng.integers(1, 9, (2, 5, 12)).astype(float)
    sums[:, :, [1, 3, 7, 9]] = 4.0
    expected = [by_hand(document, "published") for document in sums.reshape(-1, 12)]
    np.testing.assert_allclose(sim.pseudo_values(sums, "published").ravel(), expected)


def test_a_bin_of_one_document_has_no_pseudo_values():
    sums = np.ones((1, 4, 12))
    sums[0, 1:, [2, 3, 8, 9]] = 0.0
    assert np.isnan(sim.pseudo_values(sums)).all()


def test_without_a_bin_nothing_is_told_apart(rng):
    full, empty = rng.integers(1, 9, (1, 6, 12)).astype(float), np.ones((1, 6, 12))
    empty[:, :, [2, 3, 8, 9]] = 0.0
    assert sim.exchange_test(sim.of_sums(full), sim.of_sums(empty)) == 1.0


def by_hand(sums, measure):
    """LAS of summed gaps and numbers of items: of items whose label is answered, then of the others."""
    yes, no = sums[:6], sums[6:]
    if measure == "published":
        return ((yes[0] + no[0]) / (yes[1] + no[1]) + (yes[2] + no[2]) / (yes[3] + no[3])) / 2
    per_yes, per_no = 1 / (yes[1] + yes[3]), 1 / (no[1] + no[3])
    bins = [(yes[i] * per_yes + no[i] * per_no) / (yes[i + 1] * per_yes + no[i + 1] * per_no) for i in (0, 2)]
    return np.mean(bins)


def test_published_values_stand_under_our_names():
    table = sim.published().set_index("arm")
    full = Arm("full", "mechanistic")
    arms = ["mechanistic", "cot", *(arm.name for arm in ablated(full, ["1", "2", *asdict(Weights())]))]
    assert set(table.index) == set(arms)
    assert table.loc["without loop2"].tolist() == [0.72, 0.75]
    assert table.loc["without phase 2"].tolist() == [0.73, 0.75]


def test_a_difference_needs_the_same_documents(rng):
    first, second = (las(*scripted(rng, n), draws=2) for n in (10, 11))
    with pytest.raises(ValueError, match="same documents.*got 10 and 11"):
        sim.las_difference(first, second)


def test_a_tie_for_the_highest_score_finds_no_label():
    level = Scripted({shown: np.array([1.0, 1.0, 0.0]) for shown in ("xe", "x", "e")}, "first")
    result = las(level, np.zeros((3, 10)), [[4, 2, 0]], [[4]], draws=2)
    assert (result.n_leaking, result.n_other) == (0, 1)
    assert result.accuracies["xe"].scalar[0] == 0


class TestExplanations:
    @pytest.mark.parametrize("which", ["labels", "first"])
    def test_one_that_states_the_answer_leaks_for_every_item_and_has_no_las(self, study, which):
        result = study(lambda x: words(x[:1]), lambda x, e, y: words(y), lambda x, e: e[:1], which)
        assert result.n_other == 0
        assert result.n_leaking == N_DOCUMENTS * (N_CANDIDATES if which == "labels" else 1)
        assert result.accuracies["e"].scalar[0] == result.accuracies["xe"].scalar[0] == 1
        assert result.leaking.scalar[0] > 0.1, "it says what the document does not"
        assert np.isnan(result.las.scalar).all()
        assert np.isnan(result.other.scalar).all()
        assert np.isnan(sim.las_difference(result, result).scalar).all()

    def test_noise_adds_nothing(self, study):
        result = study(words, lambda x, e, y: words(e), lambda x, e: x[:2])
        assert result.n_leaking > 0
        assert result.n_other > 0
        assert result.las.scalar[0] == pytest.approx(0, abs=0.03)

    def test_a_copy_of_the_document_adds_nothing(self, study):
        result = study(words, lambda x, e, y: words(x), lambda x, e: sorted({*x[:1], *e[:1]}))
        assert result.n_other > 10
        assert result.las.scalar[0] == pytest.approx(0, abs=0.03)

    def test_one_that_helps_only_together_with_the_document_has_a_positive_las(self, study):
        """Two in six are named by either: each alone had better say no, and only both tell which one is meant."""
        result = study(
            lambda x: words(x[:2]),
            lambda x, e, y: words(e[:2]),
            lambda x, e: [label for label in x[:2] if label in e[:2]],
        )
        assert result.accuracies["xe"].scalar[0] > 0.97
        assert max(result.accuracies[alone].scalar[0] for alone in ("x", "e")) < 0.93
        assert result.las.scalar[1] > 0.1
        assert result.other.scalar[1] > 0.4, "where e alone misleads"


class TestStudents:
    def test_items_of_several_students_are_counted_together(self, space, encoder, own_cache):
        rng = np.random.default_rng(2)
        n = 12
        documents = [space.texts[int(label)] + " and words" for label in rng.integers(len(space), size=n)]
        answers = [[[int(rng.integers(len(space)))] for _ in range(n)] for _ in range(2)]
        cots = [[space.texts[row[0]] for row in answer] for answer in answers]
        retrieved = [list(range(len(space))) for _ in range(n)]
        both = explanations.of_students(answers, cots, documents, retrieved, space, encoder)
        each = [
            explanations.of_students([a], [c], documents, retrieved, space, encoder)
            for a, c in zip(answers, cots, strict=True)
        ]
        np.testing.assert_allclose(both.sums, each[0].sums + each[1].sums)
        assert both.n_leaking + both.n_other == 2 * n * len(space)
        table = sim.table({"one": both})
        assert table["measure"].tolist()[:4] == ["balanced LAS", "LAS", "gap, leaking", "gap, not leaking"]
        assert table["measure"].tolist()[-1] == "always the majority"

    def test_all_are_asked_about_the_same_candidates(self, space):
        answers = [[[0], [1, -1]], [[2], [1]]]
        cots = [["a liver", ""], ["", "left heart"]]
        candidates = explanations.shared_candidates(answers, cots, [[3, 4], [1, 5]], space)
        named = [label.label for label in mentions("a liver", space)]
        assert set(candidates[0]) == {0, 2, 3, 4, *named}
        assert all(len(labels) == len(set(labels)) for labels in candidates)
        assert candidates[1][0] == 1

    def test_masked_explanations_name_no_label(self, space):
        text = f"It is {space.texts[3]}, not {space.texts[0]}."
        masked = explanations.without_names(text, space)
        assert masked == "It is [label], not [label]."
        assert explanations.without_names("words alone", space) == "words alone"

    def test_explanations_of_known_quality_share_their_candidates(self, space, encoder, own_cache):
        rng = np.random.default_rng(2)
        labels = [int(label) for label in rng.integers(len(space), size=8)]
        cots = [space.texts[label] for label in labels]
        cots = [f"{cot}, on the other hand, in any case" for cot in cots]
        results = explanations.of_known_explanations(
            [[label] for label in labels], cots, ["words"] * 8, [list(range(len(space)))] * 8, space, encoder
        )
        assert tuple(results) == explanations.KNOWN
        alone = {quality: result.accuracies["e"].scalar[0] for quality, result in results.items()}
        assert alone[explanations.STATED] >= alone[explanations.OWN] > alone[explanations.ANOTHERS]
        assert alone[explanations.SHUFFLED] > alone[explanations.ANOTHERS]
        for result in results.values():
            assert result.n_leaking + result.n_other == 8 * len(space)

    def test_shuffled_words_are_the_same_words(self, space, encoder, own_cache, monkeypatch):
        shown = []
        monkeypatch.setattr(explanations, "of_students", lambda _, cots, *others: shown.append(cots[0]))
        cots = ["a liver and a heart", "", "left heart", "right"]
        explanations.of_known_explanations([[0, -1], [], [1], [2]], cots, [""] * 4, [[0]] * 4, space, encoder)
        stated, unchanged, shuffled, others = shown
        assert stated == [space.texts[0], "", space.texts[1], space.texts[2]]
        assert unchanged == cots
        assert [sorted(text.split()) for text in shuffled] == [sorted(text.split()) for text in cots]
        assert others == ["", "left heart", "right", "a liver and a heart"]

    def test_too_few_documents(self, space, encoder):
        with pytest.raises(ValueError, match="at least 4, got 3"):
            explanations.of_students([[[0]] * 3], [[""] * 3], [""] * 3, [[0]] * 3, space, encoder)
