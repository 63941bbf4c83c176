"""The factorial recovers effects that were put in; shares add up; each cell is the metric of its answer."""

import itertools

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.data.label_space import LabelSpace
from ctd.data.task import Card, Task
from ctd.mechanism import factorial
from ctd.mechanism.factorial import Factorial
from ctd.retrieval import metrics

SHORTLIST = np.array([0.1, 0.05, 0.0, -0.15])
REFINEMENT = np.array([-0.1, 0.02, 0.08])
PAIRS = np.outer([0.04, -0.04, 0.02, -0.02], [0.5, -0.5, 0.0])  # rows and columns sum to zero
TRUTH = 0.5 + SHORTLIST[:, None] + REFINEMENT + PAIRS


def drawn(rng, n=80, noise=0.2):
    """Scores with those effects, documents that differ, and noise."""
    documents = rng.normal(0, 0.3, size=(n, 1, 1))
    return Factorial(TRUTH + documents + rng.normal(0, noise, size=(n, 4, 3)), np.ones(n))


class TestFactorial:
    def test_effects_that_were_put_in_come_out(self, rng):
        effects = drawn(rng, 600, 0.05).effects()
        np.testing.assert_allclose(effects["shortlist"]["value"], SHORTLIST, atol=0.01)
        np.testing.assert_allclose(effects["refinement"]["value"], REFINEMENT, atol=0.01)
        np.testing.assert_allclose(effects["interaction"]["value"].to_numpy().reshape(4, 3), PAIRS, atol=0.01)

    def test_effects_and_the_grand_mean_add_up_to_every_cell(self, rng):
        design = drawn(rng)
        effects = {name: table["value"].to_numpy() for name, table in design.effects().items()}
        whole = design.gains.mean() + effects["shortlist"][:, None] + effects["refinement"]
        cells = design.cells()
        np.testing.assert_allclose(whole.ravel() + effects["interaction"], cells["value"])
        assert cells[["shortlist", "refinement"]].iloc[4].tolist() == ["retrieved", "own"]

    def test_shapley_shares_add_up_to_the_whole_gain(self, rng):
        for absent in ("retrieved", "corrupted"):
            values = drawn(rng).phases(absent).set_index("name")["value"]
            gain = values["both phases"] - values["neither phase"]
            assert sum(values[share] for share in factorial.SHARES) == pytest.approx(gain, abs=1e-12)
            beyond = gain - sum(values[alone] - values["neither phase"] for alone in ("Phase 1 alone", "Phase 2 alone"))
            assert values[factorial.SYNERGY] == pytest.approx(beyond, abs=1e-12)
            assert values[factorial.LOST[0]] == pytest.approx(values["both phases"] - values["Phase 2 alone"])

    def test_shapley_shares_are_means_over_the_orders(self, rng):
        design = drawn(rng)
        value = {frozenset(): (1, 0), frozenset({1}): (0, 0), frozenset({2}): (1, 1), frozenset({1, 2}): (0, 1)}
        mean = design.gains.mean(0)
        for phase, share in enumerate(factorial.SHARES, start=1):
            gains = []
            for order in itertools.permutations((1, 2)):
                before = frozenset(order[: order.index(phase)])
                gains.append(mean[value[before | {phase}]] - mean[value[before]])
            assert design.phases().set_index("name")["value"][share] == pytest.approx(np.mean(gains))

    @pytest.mark.parametrize("studies", [150, pytest.param(1000, marks=pytest.mark.slow)])
    def test_intervals_cover_as_often_as_they_say(self, rng, monkeypatch, studies):
        monkeypatch.setattr(stats.comparisons, "sign_flip_test", lambda *_, **__: 1.0)
        truth = {
            factorial.SHARES[0]: (TRUTH[0, 0] - TRUTH[1, 0] + TRUTH[0, 1] - TRUTH[1, 1]) / 2,
            factorial.SYNERGY: TRUTH[0, 1] - TRUTH[0, 0] - TRUTH[1, 1] + TRUTH[1, 0],
            "both phases": TRUTH[0, 1],
        }
        covered = dict.fromkeys(truth, 0)
        for study in range(studies):
            table = drawn(rng).phases(seed=study).set_index("name")
            for name, value in truth.items():
                covered[name] += table.loc[name, "low"] <= value <= table.loc[name, "high"]
        error = 3 * np.sqrt(0.95 * 0.05 / studies)
        for count in covered.values():
            assert count / studies == pytest.approx(0.95, abs=error)

    def test_a_ratio_of_sums_is_one_in_every_contrast(self, rng):
        gains, ideals = rng.random((30, 4, 3)), 1 + rng.random(30)
        design = Factorial(gains, ideals)
        assert design.cells()["value"].iloc[0] == pytest.approx(gains[:, 0, 0].sum() / ideals.sum())
        gain = design.gained().set_index("name").loc["oracle"]
        assert gain["value"] == pytest.approx((gains[:, 2, 1] - gains[:, 2, 0]).sum() / ideals.sum())
        assert gain["low"] < gain["value"] < gain["high"]

    def test_those_rescued_gain_most_by_the_phase(self):
        gains = np.zeros((4, 4, 3))
        gains[:, 0, 1] = [1.0, 0.6, 0.5, 0.2]  # both
        gains[:, 1, 1] = [0.9, 0.0, 0.0, 0.2]  # Phase 2 alone
        gains[:, 0, 0] = [0.0, 0.6, 0.4, 0.3]  # Phase 1 alone
        rescued = Factorial(gains, np.ones(4)).rescued(most=2)
        assert rescued.to_numpy().tolist() == [
            [1, "Phase 1", 0.0, 0.6],
            [2, "Phase 1", 0.0, 0.5],
            [0, "Phase 2", 0.0, 1.0],
            [2, "Phase 2", 0.4, 0.5],
        ]

    def test_bad_input(self, rng):
        design = drawn(rng)
        with pytest.raises(ValueError, match=r"\(80, 4, 3\), got \(80, 4, 2\)"):
            Factorial(design.gains[..., :2], design.ideals)
        with pytest.raises(ValueError, match="'stolen' is not one of own, retrieved"):
            design.phases("stolen")
        with pytest.raises(ValueError, match=r"weights of 'x' need the shape \(4, 3\), got \(3, 4\)"):
            design.contrasts({"x": np.ones((3, 4))})


GOLD = csr_matrix(np.array([[1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool))
PROPENSITY = np.array([1.0, 5.0, 2.0, 3.0, 4.0, 1.0])
LISTS = {
    "own": [[3, 0, 1, 4], [5, 2], [1]],
    "retrieved": [[5, 3, 2, 4], [3, 4], [0]],
    "oracle": [[0, 1, 4, 3], [2, 5], [2]],
    "corrupted": [[3, 2], [5], [3]],
}
OUTPUTS = {name: np.array([[0, 3, 4], [2, -1, -1], [1, -1, -1]], np.int32) for name in LISTS}


class TestCells:
    @pytest.mark.parametrize("metric", ["nDCG", "PSP"])
    def test_each_cell_is_the_metric_of_its_answer(self, metric):
        design = factorial.evaluate(LISTS, OUTPUTS, GOLD, PROPENSITY, metric, 2)
        cells = design.cells().set_index(["shortlist", "refinement"])["value"]

        def score(pred):
            pred = np.array(pred, np.int32)
            if metric == "PSP":
                return metrics.psp_at_k(pred, GOLD, 2, PROPENSITY)
            return metrics.ndcg_at_k(pred, GOLD, 2)

        assert cells["own", "none"] == pytest.approx(score([[3, 0], [5, 2], [1, -1]]))
        assert cells["retrieved", "own"] == pytest.approx(score(OUTPUTS["own"]))
        best = max(
            score([first, second, third])
            for first in itertools.permutations(LISTS["own"][0], 2)
            for second in itertools.permutations(LISTS["own"][1], 2)
            for third in [[1, -1]]
        )
        assert cells["own", "oracle"] == pytest.approx(best), "no order of the list is better"

    def test_bad_input(self):
        with pytest.raises(ValueError, match="metric must be one of nDCG, PSP, got 'F1'"):
            factorial.evaluate(LISTS, OUTPUTS, GOLD, PROPENSITY, "F1")
        with pytest.raises(ValueError, match="each shortlist needs an output"):
            factorial.evaluate(LISTS, {"own": OUTPUTS["own"]}, GOLD, PROPENSITY)

    def test_rescued_documents_in_words(self):
        texts = ["a", "b", "c", "d", "e", "f"]
        rows = {"uid": ["x", "y", "z"], "text": ["one", "two", "three"], "labels": [[0, 1, 4], [2], []]}
        task = Task(
            DatasetDict({"test": Dataset.from_dict(rows)}),
            LabelSpace("letters", texts, texts, len(texts)),
            Card("t", "l", "s", "m"),
        )
        rescued = pd.DataFrame([(1, "Phase 2", 0.0, 1.0)], columns=["row", "rescuer", "alone", "both"])
        row = factorial.in_words(rescued, task, LISTS, OUTPUTS, 2).iloc[0]
        assert row.tolist() == ["two", "Phase 2", "c", "f; c *", "c *", 0.0, 1.0]
