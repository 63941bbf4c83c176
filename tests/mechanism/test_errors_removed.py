"""Removed errors and their overlaps, against counts by hand."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ctd.mechanism import errors_removed
from tests.mechanism.test_factorial import GOLD, LISTS, OUTPUTS


class TestErrors:
    def test_removed_errors_are_counted_by_hand(self):
        # With neither phase the first two places hold no gold label: four errors. Phase 1 finds 0 and 2 (of the second
        # document), Phase 2 the same two.
        groups = {
            "label": (np.array([0, 0, 1, 1, 1, 1]), ["low", "high"]),
            "document": (np.array([0, 1, 1]), ["first", "other"]),
        }
        table = errors_removed.by_group(LISTS, OUTPUTS, GOLD, 2, groups).set_index(["by", "group"])
        counts = table[["errors", "phase_1", "phase_2", "both", "jaccard"]]
        assert counts.loc["all", "all"].tolist() == [4, 0.5, 0.5, 0.5, 1.0]
        assert counts.loc["label", "low"].tolist() == [2, 0.5, 0.5, 0.5, 1.0]
        assert counts.loc["document", "other"].tolist() == [1, 1.0, 1.0, 1.0, 1.0]
        assert table["n"].tolist() == [2, 1, 2, 1, 1], "the third document has no label, so no error"
        assert table.loc[("all", "all"), "yules_q"] == 1.0
        assert np.isnan(table.loc[("document", "other"), "yules_q"]), "nothing is left that neither removes"

    def test_groups_add_up(self, rng):
        n, labels = 60, 30
        gold = csr_matrix(rng.random((n, labels)) < 0.1)
        lists = {name: [rng.permutation(labels)[:6].tolist() for _ in range(n)] for name in LISTS}
        outputs = {name: np.array([rng.permutation(labels)[:4] for _ in range(n)], np.int32) for name in LISTS}
        table = errors_removed.by_group(lists, outputs, gold, 3, {"label": (np.arange(labels) % 3, list("abc"))})
        whole, parts = table[table["by"] == "all"].iloc[0], table[table["by"] == "label"]
        assert parts["errors"].sum() == whole["errors"]
        assert (parts["errors"] * parts["both"]).sum() == pytest.approx(whole["errors"] * whole["both"])
        assert whole["jaccard_low"] <= whole["jaccard"] <= whole["jaccard_high"]

    def test_overlaps_of_known_tables(self):
        counts = np.array([[[10.0], [0.0], [0.0], [10.0]], [[5.0], [5.0], [5.0], [5.0]], [[0.0], [3.0], [4.0], [0.0]]])
        np.testing.assert_allclose(errors_removed.jaccard(counts)[:, 0], [1, 1 / 3, 0])
        np.testing.assert_allclose(errors_removed.yules_q(counts)[:, 0], [1, 0, -1])
        assert np.isnan(errors_removed.jaccard(np.zeros((1, 4, 1))))

    @pytest.mark.parametrize(
        ("counts", "names"),
        [
            ([1, 2, 3, 4, 5, 6], ["1 to 2 labels", "3 to 4 labels", "5 to 6 labels"]),
            ([1, 1, 1, 2], ["1 label", "2 labels"]),
            ([3, 3], ["3 labels"]),
        ],
    )
    def test_documents_fall_into_thirds_by_their_labels(self, counts, names):
        gold = csr_matrix(np.arange(8) < np.array(counts)[:, None])
        group, called = errors_removed.label_counts(gold)
        assert called == names
        assert group.tolist() == sorted(group)
        assert set(group) == set(range(len(names)))
