"""The tree, near misses, clusters, and the file format of a label space."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from ctd.data.label_space import LabelSpace
from ctd.retrieval.index import LabelIndex


def test_the_tree_is_walked_both_ways(space):
    assert len(space) == 7
    assert space.depth.tolist() == [0, 1, 1, 0, 1, 1, 1, 0]
    assert space.descend(0).tolist() == [1, 2]
    assert space.descend(7).tolist() == [5, 6]
    assert space.descend(1).tolist() == []
    assert space.siblings(1).tolist() == [2]
    assert space.siblings(0).tolist() == []
    assert space.ancestor(np.array([1, 4, 3]), 0).tolist() == [0, 3, 3]


def test_descend_reaches_every_level():
    chain = LabelSpace("chain", list("abcd"), list("abcd"), 4, np.array([-1, 0, 1, 2], np.int32))
    assert chain.descend(0).tolist() == [1, 2, 3]
    assert chain.depth.tolist() == [0, 1, 2, 3]


def test_anchors_come_most_frequent_first(space):
    assert space.anchors([4, 1, 2], depth=0).tolist() == [0, 3]
    assert space.anchors([5], depth=0).tolist() == [7], "an inner node may be an anchor"
    with pytest.raises(ValueError, match=r"depth must be between 0 and 1 \(the tree of 'tiny'\), got 2"):
        space.anchors([1], depth=2)


def test_near_misses_are_family_without_gold(space):
    assert set(space.near_misses([1], 10).tolist()) == {0, 2}
    assert set(space.near_misses([0], 10).tolist()) == {1, 2}
    assert set(space.near_misses([1, 2], 10).tolist()) == {0}
    assert space.near_misses([5], 10).tolist() == [6], "the inner node above may not be chosen"


def test_exclusion_notes_come_before_family(space):
    noted = replace(space, exclusions=csr_matrix(([1, 2], ([1, 1], [6, 4])), shape=(7, 7)))
    assert set(noted.near_misses([1], 2).tolist()) == {6, 4}
    assert set(noted.near_misses([1], 10).tolist()) == {6, 4, 0, 2}


def test_a_query_ranks_near_misses(space, encoder, own_cache):
    index = LabelIndex.build(space, encoder)
    assert space.near_misses([1], 2, "blood of the calcium", index).tolist() == [2, 0]
    with pytest.raises(ValueError, match="needs index="):
        space.near_misses([1], 2, "blood")


def test_without_a_tree_near_misses_are_neighbours(space, encoder, own_cache):
    flat = LabelSpace("flat", space.ids[:7], space.texts[:7], 7)
    index = LabelIndex.build(flat, encoder)
    near = flat.near_misses([1], 2, index=index)
    expected = [label for label in index.search(["Calcium/metabolism"], 3)[1][0] if label != 1]
    assert near.tolist() == expected[:2]
    with pytest.raises(ValueError, match="'flat' has no tree: give it one with with_clusters"):
        flat.near_misses([1], 2)


def test_clusters_become_the_new_roots(space, encoder):
    roots = [0, 3, 7]
    clustered = space.with_clusters(encoder.vectors([space.texts[r] for r in roots]), 2)
    assert len(clustered) == 7
    assert len(clustered.ids) == 10
    assert clustered.depth.max() == 2
    assert (clustered.parents[roots] >= 8).all()
    assert set(clustered.anchors([1, 2], 0)) == {clustered.parents[0]}
    names = {space.texts[r] for r in roots}
    assert all(part in names for node in (8, 9) for part in clustered.texts[node].split(" · "))
    with pytest.raises(ValueError, match="n_clusters must be between 1 and 3"):
        space.with_clusters(np.ones((3, 4), np.float32), 4)


def test_a_subset_keeps_the_nodes_above(space):
    part = space.subset([6, 1], "part")
    assert part.texts == ["Calcium/metabolism", "Right heart", "Calcium", "Heart"]
    assert len(part) == 2
    assert part.parents.tolist() == [2, 3, -1, -1]
    assert part.siblings(0).tolist() == []


def test_saved_and_loaded_unchanged(space, tmp_path):
    noted = replace(space, exclusions=csr_matrix(([1, 2], ([1, 5], [6, 4])), shape=(7, 7)))
    for before in (space, noted, LabelSpace("flat", ["a"], ["A"], 1)):
        before.save(tmp_path / "labels.parquet")
        after = LabelSpace.load(tmp_path / "labels.parquet")
        assert (after.name, after.ids, after.texts, len(after)) == (
            before.name,
            before.ids,
            before.texts,
            len(before),
        )
        assert (after.parents is None) == (before.parents is None)
        if before.parents is not None:
            assert after.parents.tolist() == before.parents.tolist()
        if before.exclusions is not None:
            assert (after.exclusions != before.exclusions).nnz == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["D1"] * 8}, "has the id 'D1' more than once"),
        ({"texts": ["a"]}, "one text per id"),
        ({"n_labels": 0}, r"1\.\.8 labels"),
        ({"n_labels": 9}, r"1\.\.8 labels"),
        ({"parents": np.array([1, 0, 0, -1, 3, 7, 7, -1], np.int32)}, "cycle"),
        ({"parents": np.array([8, 0, 0, -1, 3, 7, 7, -1], np.int32)}, "each -1 or below 8"),
        ({"parents": np.array([-1], np.int32)}, "must be 8 node numbers"),
        ({"exclusions": csr_matrix((2, 2))}, "square over its 7 labels"),
    ],
)
def test_a_malformed_space_is_refused(space, change, message):
    with pytest.raises(ValueError, match=message):
        replace(space, **change)


def test_labels_outside_are_refused(space, tmp_path):
    with pytest.raises(ValueError, match="labels of 'tiny' run from 0 to 6, got 7"):
        space.near_misses([7], 3)
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        space.near_misses([1], 0)
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="not a label space written by LabelSpace.save"):
        LabelSpace.load(tmp_path / "other.parquet")
