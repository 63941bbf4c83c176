"""Approximate search over millions of labels: scan short codes of all of them, then rescore the best exactly.

Notes: vectors of headings form no clusters. An index that looks into some of its lists (IVF) misses neighbours, while a
scan of all codes in the processor's registers is fast and misses almost none. q queries, k places, n labels, d
dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import faiss
import numpy as np
from jaxtyping import Float, Int

from ctd.retrieval import shards

RESCORED = 15  # times k: of ten million labels 5 find 92 % of the nearest 100, 15 find 99.8 %, in the same time
FEWEST_RESCORED = 64
SAMPLE = 40_000  # labels that the codes are trained on
FEWEST = 256  # labels


@dataclass(frozen=True, eq=False)
class FastScan:
    """Codes of all labels in memory, and their exact vectors in a file that is mapped.

    codes: FAISS's product quantiser of 4 bits for 2 dimensions, d / 4 bytes a label.
    vectors: of the labels that the index was built with.
    added: of labels that came later; their numbers follow.
    removed: numbers that are never found.
    """

    codes: faiss.Index
    vectors: Float[np.ndarray, "n d"]
    added: Float[np.ndarray, "added d"]
    removed: Int[np.ndarray, " removed"] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(cls, codes: faiss.Index, vectors: Float[np.ndarray, "n d"]) -> FastScan:
        """An index without changes."""
        return cls(codes, vectors, np.empty((0, vectors.shape[1]), np.float32))

    def save_vectors(self, folder: Path) -> None:
        """Write all but the codes to a folder."""
        shape = (self.codes.ntotal, self.vectors.shape[1])
        file = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
        for start in range(0, len(file), shards.SIZE):
            numbers = np.arange(start, min(start + shards.SIZE, len(file)))
            file[numbers] = self.reconstruct_batch(numbers)
        file.flush()
        np.save(folder / "removed.npy", self.removed)

    @classmethod
    def load(cls, codes: faiss.Index, folder: Path) -> FastScan:
        """What `save_vectors` wrote, with the codes."""
        index = cls.of(codes, np.load(folder / "vectors.npy", mmap_mode="r"))
        return replace(index, removed=np.load(folder / "removed.npy"))

    def search(self, queries: Float[np.ndarray, "q d"], k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k vectors of about the largest inner product with each query: exact products and numbers, best first."""
        depth = max(FEWEST_RESCORED, RESCORED * k)
        while True:
            depth = min(depth, self.codes.ntotal)
            scores, numbers = self._rescored(queries, self.codes.search(queries, depth)[1])
            if depth == self.codes.ntotal or np.isfinite(scores[:, k - 1]).all():
                return np.ascontiguousarray(scores[:, :k]), np.ascontiguousarray(numbers[:, :k])
            depth *= 2  # too many of them are removed

    def _rescored(
        self, queries: Float[np.ndarray, "q d"], numbers: Int[np.ndarray, "q depth"]
    ) -> tuple[Float[np.ndarray, "q depth"], Int[np.ndarray, "q depth"]]:
        numbers = np.sort(numbers, axis=1)  # as they lie in the file
        scores = np.empty(numbers.shape, np.float32)
        for row, query in enumerate(queries):
            scores[row] = self.reconstruct_batch(numbers[row]) @ query
        missing = (numbers < 0) | np.isin(numbers, self.removed)
        scores[missing], numbers[missing] = -np.inf, -1
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)

    def reconstruct_batch(self, numbers: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """Some of the exact vectors."""
        if not len(self.added):
            return np.asarray(self.vectors[numbers])
        is_added = numbers >= len(self.vectors)
        vectors = np.empty((len(numbers), self.vectors.shape[1]), np.float32)
        vectors[~is_added] = self.vectors[numbers[~is_added]]
        vectors[is_added] = self.added[numbers[is_added] - len(self.vectors)]
        return vectors

    def changed(self, vectors: Float[np.ndarray, "new d"], removed: Int[np.ndarray, " removed"]) -> FastScan:
        """The same index with more labels and without others; nothing is trained or coded anew.

        vectors: of the labels to add.
        removed: the numbers to remove. They stay those of nothing.
        """
        codes = faiss.clone_index(self.codes)
        if len(vectors):
            codes.add(np.ascontiguousarray(vectors, np.float32))
        return replace(
            self,
            codes=codes,
            added=np.concatenate([self.added, vectors]).astype(np.float32),
            removed=np.union1d(self.removed, removed).astype(np.int64),
        )


def coded(vectors: Float[np.ndarray, "n d"], name: str, seed: int) -> faiss.Index:
    """The codes of a `FastScan`.

    vectors: of all labels.
    name: of the label space, for the error.
    seed: draws the labels that the codes are trained on, and starts the k-means.
    Raises ValueError for fewer than 256 labels.
    """
    n, d = vectors.shape
    if n < FEWEST:
        raise ValueError(f"kind 'fastscan' trains on at least {FEWEST} labels; '{name}' has {n}: use 'flat'")
    codes = faiss.IndexPQFastScan(d, d // 2 if d % 2 == 0 else d, 4, faiss.METRIC_INNER_PRODUCT)
    codes.pq.cp.min_points_per_centroid = 1  # few labels are enough; FAISS would warn of each subspace
    codes.pq.cp.seed = seed
    sample = np.random.default_rng(seed).permutation(n)[:SAMPLE]
    codes.train(np.ascontiguousarray(vectors[np.sort(sample)], np.float32))
    for start in range(0, n, shards.SIZE):
        codes.add(np.ascontiguousarray(vectors[start : start + shards.SIZE], np.float32))
    return codes
