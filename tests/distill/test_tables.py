"""Tables over students, against hand counts."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ctd.distill import tables
from ctd.distill.measures import Outcome


def outcome(arm, seed, exact, tokens=10.0, chosen_step=5):
    values = {
        "exact_match": np.array(exact, float),
        "ndcg@5": np.array(exact) / 2,
        "shortlist_recall": np.ones(len(exact)),
    }
    values["token_probability"] = np.full(len(exact), 0.5)
    values["tokens"] = np.full(len(exact), tokens)
    return Outcome(arm, seed, values, [], [], 5, 100, 2.0 + seed, 0.4, 0.1, 1.0 + seed, chosen_step)


OUTCOMES = [
    outcome("cot", 0, [0, 0, 1, 0]),
    outcome("cot", 1, [0, 1, 0, 0]),
    outcome("other", 0, [1, 0, 1, 1], 20.0),
    outcome("other", 1, [0, 1, 0, 0], 20.0),
]


class TestTables:
    def test_means_over_seeds_and_documents(self):
        table = tables.table(OUTCOMES).set_index(["arm", "measure"])
        assert table.loc[("cot", "exact_match"), "value"] == 0.25
        assert table.loc[("other", "exact_match"), "value"] == 0.5
        assert table.loc[("other", "exact_match"), "sd"] == pytest.approx(np.std([0.75, 0.25], ddof=1))
        assert table.loc[("other", "tokens"), "value"] == 20

    def test_gains_are_paired_over_documents_and_counted_over_seeds(self):
        (row,) = tables.gains(OUTCOMES, "cot").to_dict("records")
        assert (row["name"], row["value"], row["seeds"]) == ("other", 0.25, 1)
        over = scipy_stats.ttest_1samp([0.5, 0.0], 0).confidence_interval()
        assert (row["seed_low"], row["seed_high"]) == pytest.approx((over.low, over.high))
        (alone,) = tables.gains([result for result in OUTCOMES if result.seed == 0], "cot").to_dict("records")
        assert np.isnan([alone["seed_low"], alone["seed_high"]]).all()
        with pytest.raises(ValueError, match="baseline must be one of cot, other, got 'none'"):
            tables.gains(OUTCOMES, "none")

    def test_costs(self):
        costs = tables.costs(OUTCOMES).set_index("arm")
        assert costs.loc["cot", "training s"] == 2.5
        assert "weights of step" not in costs
        early = [*OUTCOMES, outcome("early", 0, [0, 0, 1, 0], chosen_step=3)]
        assert tables.costs(early).set_index("arm")["weights of step"].to_dict() == {"cot": 5, "other": 5, "early": 3}
        assert tables.final_loss(OUTCOMES) == {"cot": 1.5, "other": 1.5}
