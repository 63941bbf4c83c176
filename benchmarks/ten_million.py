"""How much memory do ten million labels take, and how many of the exact neighbours does the scan of codes find?

The labels are made up of two parts, as those of MeSH are of a heading and a qualifier: the vector of label (a, b) is
the direction of A[a] + B[b], both drawn at random. So any vector can be computed when it is needed, none is stored, and
exact search is a table of sums. Queries lie between a label and a random direction.
"""

from __future__ import annotations

import math
import time
from typing import Annotated

import faiss
import numpy as np
import psutil
import typer

from ctd.book import benchmarks, search_costs
from ctd.retrieval import fast_scan
from ctd.retrieval.fast_scan import FastScan

DIM, K, QUERIES, BLOCK = 256, 100, 32, 65_536


class Pairs:
    """The vectors of all labels, computed when they are read; label n is (n // n_second, n % n_second)."""

    def __init__(self, n: int, dim: int, seed: int) -> None:
        self.n_second = math.isqrt(n - 1) + 1
        self.first = search_costs.unit_vectors(self.n_second, dim, seed)
        self.second = search_costs.unit_vectors(self.n_second, dim, seed + 1)
        self.shape = (n, dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        sums = self.first[numbers // self.n_second] + self.second[numbers % self.n_second]
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def exact(self, query: np.ndarray, k: int) -> np.ndarray:
        """The numbers of the k labels nearest to a query."""
        sums = (self.first @ query)[:, None] + (self.second @ query)[None]
        scores = (sums / np.sqrt(2 + 2 * self.first @ self.second.T)).ravel()[: len(self)]
        return np.argpartition(-scores, k)[:k]


def main(
    n: Annotated[int, typer.Option(min=10_000, help="labels")] = 10**7,
) -> None:
    """Build the codes, search, and print what that took."""
    faiss.omp_set_num_threads(1)
    vectors, process = Pairs(n, DIM, 0), psutil.Process()
    before, began = process.memory_info().rss, time.process_time()
    rng = np.random.default_rng(2)
    codes = fast_scan.coded(vectors[np.sort(rng.choice(n, BLOCK, replace=False))], "made up", 0)
    codes.reset()
    for start in range(0, n, BLOCK):
        codes.add(vectors[np.arange(start, min(start + BLOCK, n))])
    held, built = process.memory_info().rss - before, time.process_time() - began
    queries = vectors[rng.integers(0, n, QUERIES)] + search_costs.unit_vectors(QUERIES, DIM, 3)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    scan = FastScan.of(codes, vectors)
    ways = {search_costs.SCAN: lambda: scan.search(queries, K)}
    (row,) = benchmarks.compare(benchmarks.Work("ten_million", "labels", n), ways, "")
    neighbours = scan.search(queries, K)[1]
    hits = [len(np.intersect1d(neighbours[place], vectors.exact(query, K))) for place, query in enumerate(queries)]
    print(f"{n:,} labels of {DIM} dimensions, built in {built:,.0f} s of processor time")
    print(f"codes: {codes.ntotal * codes.code_size:,} bytes, {codes.code_size} a label")
    print(f"memory grew by {held >> 20:,} MiB")
    print(f"{QUERIES} queries: {row.seconds:.3f} s; recall@{K} {np.mean(hits) / K:.3f}, lowest {min(hits) / K:.2f}")


if __name__ == "__main__":
    typer.run(main)
