"""What processes of one thread save over threads: all heads of a model are scored, with and without a busy core."""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import typer
from compute import busy_core
from rich.console import Console
from rich.table import Table

from ctd import hardware
from ctd.mechanism import heads
from ctd.reasoning import models
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.token_spans import Span
from ctd.workers.pool import POOL

TOKENS = 256  # of a trace


def traces(n: int) -> list[AnnotatedTrace]:
    """Made-up traces: a document, then a CoT without comparisons."""
    ids = np.random.default_rng(0).integers(5, 1000, (n, TOKENS))
    document, cot = Span(2, TOKENS // 2), Span(TOKENS // 2, TOKENS)
    return [
        AnnotatedTrace(f"d{row}", tuple(of_row), document, cot, cot, 3 * TOKENS // 4, (5, 8), (Span(4, 6),), ())
        for row, of_row in enumerate(ids.tolist())
    ]


def main(
    model: Annotated[str, typer.Option(help="a model's name, folder or id")] = models.SMOLLM2,
    n_batches: Annotated[int, typer.Option(min=2, help="batches of four traces")] = 6,
) -> None:
    """Time each way once, and print how many times as fast as all threads it is."""
    loaded: Any = models.load(model).model
    scored = traces(4 * n_batches)
    shared, pieces = heads._prepared(loaded, scored, "unembedding")

    def in_threads() -> None:
        for start in range(0, len(scored), 4):
            heads._score_batch(shared, pieces[start : start + 4])

    def in_processes(n_workers: int) -> None:
        os.environ["CTD_WORKERS"] = str(n_workers)
        heads.score(loaded, scored, batch_tokens=4 * TOKENS)

    cores = hardware.cores()
    ways: dict[str, Callable[[], None]] = {
        f"{torch.get_num_threads()} threads": in_threads,
        "1 worker": partial(in_processes, 1),
        f"{cores} workers, started": partial(in_processes, cores),
        f"{cores} workers, there already": partial(in_processes, cores),
    }
    in_threads()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for state in (nullcontext(), busy_core()):
        POOL.kill()
        with state:
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - began)
    table = Table("way", "quiet, s", "ratio", "beside a busy core, s", "ratio", title=f"{model}, {len(scored)} traces")
    for name, (quiet, busy) in seconds.items():
        threads = seconds[next(iter(ways))]
        table.add_row(name, f"{quiet:.1f}", f"{threads[0] / quiet:.2f}", f"{busy:.1f}", f"{threads[1] / busy:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
