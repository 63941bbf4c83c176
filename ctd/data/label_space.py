"""What there is to choose from: a label space, its tree, and the near misses of a label.

Notes: nodes are numbered; the labels come first (0 .. len(space) - 1), inner nodes of the tree that nobody may
choose (an ICD chapter, a cluster) follow. Arrays of nodes are int32; -1 stands for "none".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from ctd.cache import atomic
from ctd.data.damaged import named_if_damaged


class Neighbours(Protocol):
    """What `near_misses` asks of a label index (`ctd.retrieval.index.LabelIndex` is one)."""

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]: ...

    def vectors(self, labels: Int[np.ndarray, " labels"]) -> Float[np.ndarray, "labels dim"]: ...

    def search(
        self, queries: Sequence[str] | Float[np.ndarray, "queries dim"], k: int
    ) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]: ...


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """Labels with ids and texts and, where the data has them, a tree and exclusion notes.

    name: what messages call it, such as "mesh".
    ids: a unique string for each node, labels first.
    texts: a text for each node.
    n_labels: how many of the nodes may be chosen; `len(space)`.
    parents: parent node of each node, -1 for a root; None without a tree.
    exclusions: [labels, labels]; 1 (Excludes1) or 2 (Excludes2) where the row's notes name the column.
    Raises ValueError when lengths differ, an id repeats, or the tree has a cycle or leads outside.
    """

    name: str
    ids: list[str]
    texts: list[str]
    n_labels: int
    parents: Int[np.ndarray, " nodes"] | None = None
    exclusions: csr_matrix | None = None

    def __post_init__(self) -> None:
        nodes = len(self.ids)
        if not 0 < self.n_labels <= nodes or len(self.texts) != nodes:
            raise ValueError(
                f"label space '{self.name}' needs one text per id and 1..{nodes} labels, "
                f"got {nodes} ids, {len(self.texts)} texts, {self.n_labels} labels"
            )
        if len(self.lookup) != nodes:
            repeated = next(id for row, id in enumerate(self.ids) if self.lookup[id] != row)
            raise ValueError(f"label space '{self.name}' has the id {repeated!r} more than once")
        if self.parents is not None and (
            len(self.parents) != nodes or self.parents.min() < -1 or self.parents.max() >= nodes
        ):
            raise ValueError(f"parents of '{self.name}' must be {nodes} node numbers, each -1 or below {nodes}")
        if self.exclusions is not None and self.exclusions.shape != (self.n_labels, self.n_labels):
            raise ValueError(f"exclusions of '{self.name}' must be square over its {self.n_labels} labels")
        _ = self.depth

    def __len__(self) -> int:
        return self.n_labels

    @cached_property
    def lookup(self) -> dict[str, int]:
        """Node number of each id."""
        return {id: node for node, id in enumerate(self.ids)}

    @cached_property
    def depth(self) -> Int[np.ndarray, " nodes"]:
        """Steps from a root to each node; all zero without a tree."""
        depth = np.zeros(len(self.ids), np.int32)
        if self.parents is None:
            return depth
        climb = self.parents.copy()
        while (moving := climb >= 0).any():
            depth += moving
            climb[moving] = self.parents[climb[moving]]
            if depth.max() > 64:
                raise ValueError(f"the tree of '{self.name}' has a cycle, or is deeper than 64")
        return depth

    @cached_property
    def family(self) -> Int[np.ndarray, " labels"]:
        """The node that stands for each label's family: its parent, or the label itself where it has none."""
        labels = np.arange(len(self), dtype=np.int32)
        return labels if self.parents is None else np.where(self.parents[labels] < 0, labels, self.parents[labels])

    @cached_property
    def _children(self) -> tuple[Int[np.ndarray, " nodes"], Int[np.ndarray, " starts"]]:
        """Nodes sorted by parent, and where each parent's run starts."""
        parents = self._tree()
        order = np.argsort(parents, kind="stable").astype(np.int32)
        return order, np.searchsorted(parents[order], np.arange(len(parents) + 1))

    def _tree(self) -> Int[np.ndarray, " nodes"]:
        if self.parents is None:
            raise ValueError(f"label space '{self.name}' has no tree: give it one with with_clusters(), or pass index=")
        return self.parents

    def check(self, labels: Iterable[int]) -> Int[np.ndarray, " labels"]:
        """The labels as an int32 array. Raises ValueError for one outside 0 .. len(space) - 1."""
        array = np.asarray(list(labels), np.int64)
        outside = array[(array < 0) | (array >= len(self))]
        if len(outside):
            raise ValueError(f"labels of '{self.name}' run from 0 to {len(self) - 1}, got {outside[0]}")
        return array.astype(np.int32)

    def children(self, node: int) -> Int[np.ndarray, " children"]:
        """The nodes directly below `node`."""
        order, starts = self._children
        return order[starts[node] : starts[node + 1]]

    def descend(self, node: int) -> Int[np.ndarray, " labels"]:
        """All labels below `node` (without itself), sorted."""
        self._tree()
        levels, frontier = [np.empty(0, np.int32)], self.children(node)
        while len(frontier):
            levels.append(frontier)
            frontier = np.concatenate([self.children(child) for child in frontier])
        below = np.concatenate(levels)
        return np.sort(below[below < len(self)])

    def siblings(self, label: int) -> Int[np.ndarray, " labels"]:
        """The labels that share a parent with `label` (without itself). A root has none."""
        parent = self._tree()[self.check([label])[0]]
        if parent < 0:
            return np.empty(0, np.int32)
        family = self.children(parent)
        return family[(family != label) & (family < len(self))]

    def ancestor(self, nodes: Int[np.ndarray, " nodes"], depth: int) -> Int[np.ndarray, " nodes"]:
        """The ancestor of each node at a depth; a node that is shallower stands for itself.

        nodes: node numbers.
        depth: level of the tree, 0 for the roots.
        """
        parents, climb = self._tree(), np.asarray(nodes, np.int32).copy()
        while (deep := self.depth[climb] > depth).any():
            climb[deep] = parents[climb[deep]]
        return climb

    def anchors(self, labels: Iterable[int], depth: int) -> Int[np.ndarray, " anchors"]:
        """c(x): the coarse topics of a document, most frequent first (our definition; method in the book).

        labels: its gold labels.
        depth: level of the tree that counts as coarse, 0 for the roots.
        Raises ValueError without a tree, or for a depth below 0 or deeper than the tree.
        """
        deepest = int(self.depth.max())
        if not 0 <= depth <= deepest:
            raise ValueError(f"depth must be between 0 and {deepest} (the tree of '{self.name}'), got {depth}")
        topics, counts = np.unique(self.ancestor(self.check(labels), depth), return_counts=True)
        return topics[np.argsort(-counts, kind="stable")]

    def near_misses(
        self, labels: Iterable[int], m: int, query: str | None = None, index: Neighbours | None = None
    ) -> Int[np.ndarray, " found"]:
        """N(x): up to m plausible but wrong labels, best first (idea: arXiv:2606.06840; form: our definition).

        Candidates are the labels that a gold label's exclusion notes name, and its family: its siblings and, where they
        may be chosen, its parent and its children (`Calcium` beside `Calcium/metabolism`). Without tree and notes they
        are the index's neighbours of the gold labels. Gold labels are removed.

        labels: the gold labels.
        m: how many near misses at most.
        query: the document's text; with it candidates are ranked by their cosine to the document. Without it exclusion
            notes come first, then the family.
        index: a LabelIndex of this label space.
        Raises ValueError for m < 1, a query without an index, or neither tree, notes nor index.
        """
        gold = self.check(labels)
        if m < 1:
            raise ValueError(f"m must be at least 1, got {m}")
        if query is not None and index is None:
            raise ValueError("ranking near misses by a query needs index=, a LabelIndex of this label space")
        if self.parents is None and self.exclusions is None and index is not None:
            _, neighbours = index.search([self.texts[label] for label in gold], min(m + len(gold), len(self)))
            candidates = neighbours.T.ravel().tolist()
        else:
            candidates = self._named_or_related(gold)
        right = set(gold.tolist())
        wrong = np.array([label for label in dict.fromkeys(candidates) if label >= 0 and label not in right], np.int32)
        if query is not None and index is not None and len(wrong):
            cosine = index.vectors(wrong) @ index.embed([query])[0]
            wrong = wrong[np.argsort(-cosine, kind="stable")]
        return wrong[:m]

    def _named_or_related(self, gold: Int[np.ndarray, " labels"]) -> list[int]:
        """The labels that exclusion notes name, then the families; raises ValueError without notes and tree."""
        candidates: list[int] = []
        if self.exclusions is None:
            self._tree()
        else:
            candidates += [int(label) for row in gold for label in self.exclusions[row].indices]
        if self.parents is not None:
            for label in gold:
                family = [self.siblings(label), self.parents[[label]], self.children(label)]
                candidates += [int(node) for node in np.concatenate(family) if 0 <= node < len(self)]
        return candidates

    def with_clusters(self, vectors: Float[np.ndarray, "roots dim"], n_clusters: int, seed: int = 0) -> LabelSpace:
        """The same labels under a new top level: spherical k-means clusters of the roots (our definition).

        A cluster is named by its three most central members.

        vectors: unit-norm embeddings of the roots, in node order.
        n_clusters: how many.
        seed: of the k-means.
        Raises ValueError when n_clusters is not between 1 and the number of roots.
        """
        parents = np.full(len(self.ids), -1, np.int32) if self.parents is None else self.parents
        roots = np.flatnonzero(parents < 0)
        if not 1 <= n_clusters <= len(roots) or len(vectors) != len(roots):
            raise ValueError(
                f"n_clusters must be between 1 and {len(roots)} (roots of '{self.name}', one vector each), "
                f"got {n_clusters} clusters and {len(vectors)} vectors"
            )
        cluster, central = _clusters(vectors, n_clusters, seed)
        names = [" · ".join(self.texts[roots[row]] for row in members[:3]) for members in central]
        grafted = np.concatenate([parents, np.full(n_clusters, -1)]).astype(np.int32)
        grafted[roots] = cluster + len(self.ids)
        return replace(
            self,
            ids=self.ids + [f"cluster-{number}" for number in range(n_clusters)],
            texts=self.texts + [name or f"empty cluster {number}" for number, name in enumerate(names)],
            parents=grafted,
        )

    def subset(self, labels: Iterable[int], name: str) -> LabelSpace:
        """The label space of some labels, sorted, with the nodes above them.

        A label above a kept one becomes an inner node where it is not kept itself.

        labels: those to keep.
        name: of the new label space.
        Raises ValueError for a label outside 0 .. len(space) - 1, or none at all.
        """
        kept = np.unique(self.check(labels))
        above = self.parents[kept] if self.parents is not None else kept[:0]
        inner = np.empty(0, np.int32)
        while self.parents is not None and len(above := np.setdiff1d(above[above >= 0], np.union1d(kept, inner))):
            inner = np.union1d(inner, above)
            above = self.parents[above]
        nodes = np.concatenate([kept, inner]).astype(np.int32)
        renumbered = np.full(len(self.ids) + 1, -1, np.int32)
        renumbered[nodes] = np.arange(len(nodes))
        return LabelSpace(
            name=name,
            ids=[self.ids[node] for node in nodes],
            texts=[self.texts[node] for node in nodes],
            n_labels=len(kept),
            parents=None if self.parents is None else renumbered[self.parents[nodes]],
            exclusions=None if self.exclusions is None else self.exclusions[kept][:, kept].tocsr(),
        )

    def save(self, path: Path) -> None:
        """Write the label space as one Parquet file, whole or not at all."""
        columns = {"id": pa.array(self.ids), "text": pa.array(self.texts)}
        if self.parents is not None:
            columns["parent"] = pa.array(self.parents, pa.int32())
        if self.exclusions is not None:
            inner_nodes = np.full(len(self.ids) - len(self), self.exclusions.nnz)
            offsets = pa.array(np.concatenate([self.exclusions.indptr, inner_nodes]), pa.int32())
            for column, values in (("excludes", self.exclusions.indices), ("exclude_kind", self.exclusions.data)):
                columns[column] = pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32()))
        note = {"ctd": json.dumps({"name": self.name, "n_labels": self.n_labels})}
        with atomic(path) as scratch:
            pq.write_table(pa.table(columns).replace_schema_metadata(note), scratch, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> LabelSpace:
        """Read what `save` wrote. Raises ValueError when the file is not a label space."""
        with named_if_damaged(path):
            table = pq.read_table(path)
        if b"ctd" not in (table.schema.metadata or {}):
            raise ValueError(f"{path} is not a label space written by LabelSpace.save")
        note = json.loads(table.schema.metadata[b"ctd"])
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        exclusions = None
        if "excludes" in columns:
            n = note["n_labels"]
            indptr = columns["excludes"].offsets.to_numpy()[: n + 1]
            kinds, excluded = columns["exclude_kind"].values.to_numpy(), columns["excludes"].values.to_numpy()
            exclusions = csr_matrix((kinds, excluded, indptr), shape=(n, n))
        return cls(
            name=note["name"],
            ids=columns["id"].to_pylist(),
            texts=columns["text"].to_pylist(),
            n_labels=note["n_labels"],
            parents=columns["parent"].to_numpy().copy() if "parent" in columns else None,
            exclusions=exclusions,
        )


def _clusters(
    vectors: Float[np.ndarray, "n dim"], n_clusters: int, seed: int
) -> tuple[Int[np.ndarray, " n"], list[Int[np.ndarray, " members"]]]:
    """The spherical k-means cluster of each vector, and the members of each cluster, the most central first."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    kmeans = faiss.Kmeans(vectors.shape[1], n_clusters, niter=20, seed=seed, spherical=True, min_points_per_centroid=1)
    kmeans.train(vectors)
    cosine, cluster = (nearest[:, 0] for nearest in kmeans.index.search(vectors, 1))
    order = np.lexsort((-cosine, cluster))
    return cluster, [order[cluster[order] == number] for number in range(n_clusters)]
