"""What a search over labels costs: exact search beside the scan of codes, over the same vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd.book import benchmarks
from ctd.book.run_folder import all_runs
from ctd.retrieval import fast_scan
from ctd.retrieval.fast_scan import FastScan
from ctd.retrieval.index import Exact

EXACT, SCAN = "FAISS flat", "ctd fastscan"


def beside_exact(
    vectors: Float[np.ndarray, "n d"], queries: Float[np.ndarray, "q d"], k: int, runs: int = benchmarks.RUNS
) -> list[benchmarks.Row]:
    """Both searches in turns on one thread, and the share of the exact neighbours that the scan finds.

    vectors: of the labels, 256 or more.
    queries: searched together.
    k: neighbours of each.
    runs: how many turns.
    """
    exact, scan = Exact(vectors), FastScan.of(fast_scan.coded(vectors, "labels", 0), vectors)
    (n, dim), threads = vectors.shape, faiss.omp_get_max_threads()
    work = benchmarks.Work("search", "labels", n, 2.0 * n * dim * len(queries), 4.0 * n * dim)
    ways = {EXACT: lambda: exact.search(queries, k), SCAN: lambda: scan.search(queries, k)}
    faiss.omp_set_num_threads(1)
    try:
        nearest, scanned = (search.search(queries, k)[1].tolist() for search in (exact, scan))
        rows = benchmarks.compare(work, ways, EXACT, runs)
    finally:
        faiss.omp_set_num_threads(threads)
    hits = sum(len(set(true) & set(listed)) for true, listed in zip(nearest, scanned, strict=True))
    return [replace(row, recall=hits / (k * len(queries))) if row.way == SCAN else row for row in rows]


def curve(sizes: Sequence[int], n_queries: int, dim: int, k: int, seed: int) -> list[benchmarks.Row]:
    """Both searches over more and more made-up labels.

    sizes: numbers of labels.
    n_queries: searched together.
    dim: d.
    k: neighbours of each query.
    seed: draws the vectors.
    """
    vectors, queries = unit_vectors(max(sizes), dim, seed), unit_vectors(n_queries, dim, seed + 1)
    return [row for n in sorted(sizes) for row in beside_exact(vectors[:n], queries, k)]


def unit_vectors(n: int, dim: int, seed: int) -> Float[np.ndarray, "n d"]:
    """Random directions: no two are near, which is the hardest case for an approximate search."""
    vectors = np.random.default_rng(seed).standard_normal((n, dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def minutes(runs: Path, profile: str, leave_out: str) -> pd.DataFrame:
    """Where the time of the book went: a row for each notebook that has a run, the longest first.

    runs: the folder of all runs.
    profile: whose runs to read.
    leave_out: a notebook that is not counted.
    Returns columns notebook, minutes, import_s, load_s, work_s.
    """
    rows = []
    for run in all_runs(runs):
        if run.path.name == profile and run.stem != leave_out:
            timings = run.manifest.get("timings", {})
            parts = [timings.get(part) for part in ("import_s", "load_s", "work_s")]
            rows.append((run.stem, run.manifest.get("duration_s", 0) / 60, *parts))
    table = pd.DataFrame(rows, columns=["notebook", "minutes", "import_s", "load_s", "work_s"])
    return table.sort_values("minutes", ascending=False, ignore_index=True)


def mean_cosine(n: int, n_queries: int, dim: int, seed: int) -> float:
    """How near the nearest of n made-up labels is to a query, on average; arguments as of `curve`."""
    labels, queries = unit_vectors(n, dim, seed), unit_vectors(n_queries, dim, seed + 1)
    return float((queries @ labels.T).max(axis=1).mean())
