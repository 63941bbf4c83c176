"""Whether the heads of two phases cost together what they cost apart."""

import numpy as np
import pytest

from ctd.mechanism import additivity, factorial
from ctd.mechanism.attention import Head
from ctd.mechanism.patch_effects import Effects
from ctd.mechanism.phases import Phase

RANKINGS = {Phase.SHORTLIST: [Head(0, 0), Head(0, 1), Head(1, 0)], Phase.REFINE: [Head(0, 1), Head(1, 0), Head(0, 0)]}


class TestHeads:
    def test_both_are_all_heads_of_either_once(self):
        assert additivity.tops_and_both(RANKINGS, 2) == {
            ("Phase 1", 2): [Head(0, 0), Head(0, 1)],
            ("Phase 2", 2): [Head(0, 1), Head(1, 0)],
            ("both", 2): [Head(0, 0), Head(0, 1), Head(1, 0)],
        }
        for rankings, size in ((RANKINGS, 4), ({Phase.SHORTLIST: RANKINGS[Phase.SHORTLIST]}, 1), (RANKINGS, 0)):
            with pytest.raises(ValueError, match="additivity needs two rankings"):
                additivity.tops_and_both(rankings, size)

    def test_what_both_cost_beyond_the_sum(self, rng):
        keys = tuple(additivity.tops_and_both(RANKINGS, 1))
        clean = rng.normal(size=40)
        runs = np.stack([clean, clean - 3, clean - 1, clean - 0.5, clean - 2], axis=1)
        runs[:, 2:] += rng.normal(0, 0.1, size=(40, 3))
        lonely = np.full((40, 5), np.nan)
        lonely[0] = 1.0
        effects = Effects("noising", keys, {"anchor": runs, "confusion": -runs, "margin": lonely})
        table = additivity.costs(effects).set_index(["readout", "noised"])
        assert set(table.index.get_level_values(0)) == {"anchor", "confusion"}, "one document tells no interval"
        for readout in ("anchor", "confusion"):  # Confusion rises where it gets worse
            np.testing.assert_allclose(table.loc[readout, "value"], [1, 0.5, 2, 0.5], atol=0.1)
        beyond = table.loc[("anchor", factorial.SYNERGY)]
        assert additivity.adds_up(beyond["low"], beyond["high"]) == "super-additive"
        assert beyond["p_holm"] < 0.01

    def test_verdicts(self):
        assert additivity.adds_up(-0.2, -0.1) == "sub-additive"
        assert additivity.adds_up(-0.2, 0.1) == "not told apart from additive"

    def test_other_selections_are_refused(self):
        with pytest.raises(ValueError, match="needs the selections of `tops_and_both`, got random 1"):
            additivity.costs(Effects("noising", (("random 1", 2),), {"anchor": np.zeros((3, 3))}))
