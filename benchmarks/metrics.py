"""How long the metrics take, and how much memory they need, on a made-up task of a given size.

With --out also: how many times as fast as napkinxc's they are, over more and more documents.
"""

import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix

from ctd.book import benchmarks
from ctd.retrieval import metrics

MIB = 2**20


def made_up(rows: int, labels: int, k: int, gold: int, seed: int) -> tuple[np.ndarray, csr_matrix]:
    """Random rankings of k distinct labels, and about `gold` gold labels a row, half of them among the ranked."""
    rng = np.random.default_rng(seed)
    start = rng.integers(labels, size=(rows, 1))
    stride = rng.integers(1, labels // k + 1, size=(rows, 1))
    pred = rng.permuted((start + stride * np.arange(k)) % labels, axis=1)
    ranked = rng.integers(k, size=(rows, gold // 2))
    true = np.hstack([np.take_along_axis(pred, ranked, 1), rng.integers(labels, size=(rows, gold - gold // 2))])
    pairs = np.ones(true.size, bool), (np.repeat(np.arange(rows), gold), true.ravel())
    return pred, csr_matrix(pairs, shape=(rows, labels))


def measure(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median seconds of the runs, and the memory (MiB) of one more run on top of what its input takes."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return statistics.median(seconds), peak / MIB


def beside(rows: int, labels: int, k: int, gold: int, runs: int) -> list[benchmarks.Row]:
    """P, R, nDCG and PSP at k, by napkinxc and by ctd, each given the form that it takes."""
    from napkinxc import metrics as napkinxc

    pred, true = made_up(rows, labels, k, gold, 0)
    weights = metrics.inverse_propensity(true)
    lists, ranked = [row.indices.tolist() for row in true], pred.tolist()

    def by_napkinxc() -> list[float]:
        plain = (napkinxc.precision_at_k, napkinxc.recall_at_k, napkinxc.ndcg_at_k)
        values = [measure(lists, ranked, k=k)[-1] for measure in plain]
        return [*values, napkinxc.psprecision_at_k(lists, ranked, weights, k=k)[-1]]

    def by_ctd() -> list[float]:
        plain = (metrics.precision_at_k, metrics.recall_at_k, metrics.ndcg_at_k)
        return [*(measure(pred, true, k) for measure in plain), metrics.psp_at_k(pred, true, k, weights)]

    np.testing.assert_allclose(by_ctd(), by_napkinxc(), atol=1e-6)
    work = benchmarks.Work("metrics", "documents", rows)
    return benchmarks.compare(work, {"napkinxc": by_napkinxc, "ctd": by_ctd}, "napkinxc", runs)


def main(
    rows: Annotated[int, typer.Option(min=3, help="documents")] = 100_000,
    labels: Annotated[int, typer.Option(min=2, help="size of the label space")] = 1_000_000,
    k: Annotated[int, typer.Option(min=1, help="predictions a document, all of them scored")] = 100,
    gold: Annotated[int, typer.Option(min=1, help="gold labels a document")] = 13,
    runs: Annotated[int, typer.Option(min=1, help="timed runs of each metric; the median is printed")] = 5,
    seed: Annotated[int, typer.Option(help="of the made-up task")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder for metrics.json: compare with napkinxc")] = None,
) -> None:
    """Time every metric of ctd.retrieval.metrics on random rankings and print one line each."""
    if k > labels:
        raise typer.BadParameter(f"k must be between 1 and {labels} (labels), got {k}")
    if out is not None:
        compared = [row for n in (100, 1_000, 10_000) if n <= rows for row in beside(n, labels, k, gold, runs)]
        benchmarks.keep("metrics", compared, out)
        return
    pred, true = made_up(rows, labels, k, gold, seed)
    weights = metrics.inverse_propensity(true)
    jobs = {
        "hits": lambda: metrics.hits(pred, true),
        "P": lambda: metrics.precision_at_k(pred, true, k),
        "R": lambda: metrics.recall_at_k(pred, true, k),
        "nDCG": lambda: metrics.ndcg_at_k(pred, true, k),
        "oracle nDCG": lambda: metrics.oracle_ndcg_at_k(pred, true, k),
        "PSP": lambda: metrics.psp_at_k(pred, true, k, weights),
        "inverse propensity": lambda: metrics.inverse_propensity(true),
        "F1": lambda: metrics.f1_scores(pred, true),
    }
    table = Table("metric", title=f"ctd.retrieval.metrics, median of {runs} runs")
    for column in ("rows", "labels", "k", "seconds", "working MiB"):
        table.add_column(column, justify="right")
    for name, work in jobs.items():
        seconds, memory = measure(work, runs)
        table.add_row(name, f"{rows:,}", f"{labels:,}", f"{k}", f"{seconds:.3f}", f"{memory:.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    console = Console()
    console.print(table)
    console.print(f"peak memory of the process, its made-up task included: {peak / MIB:,.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
