"""What a matrix product costs here: by dtype, threads and processes, with and without other work on one core."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from ctd import hardware


def timed(rows: int, name: str, threads: int, seconds: float) -> float:
    """GFLOP/s of the product of a text's `rows` tokens and the weights of a layer, over some time."""
    torch.set_num_threads(threads)
    dtype = getattr(torch, name)
    left = torch.randn(rows, hardware.WIDTH).to(dtype)
    right = torch.randn(hardware.INNER, hardware.WIDTH).to(dtype)
    with torch.inference_mode():
        for _ in range(3):
            torch.nn.functional.linear(left, right)
        n_products, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            torch.nn.functional.linear(left, right)
            n_products += 1
    return 2 * rows * hardware.WIDTH * hardware.INNER * n_products / took / 1e9


@contextmanager
def busy_core() -> Iterator[None]:
    """Other work on one core meanwhile."""
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def main(
    rows: Annotated[int, typer.Option(min=1, help="tokens that are multiplied together")] = 2048,
    seconds: Annotated[float, typer.Option(min=0.1, help="of each measurement")] = 1.0,
) -> None:
    """Print a table, and what `ctd machine` chooses."""
    cores = hardware.cores()
    table = Table("compute", "quiet", "beside a busy core", title=f"GFLOP/s, {rows} rows: {hardware.cpu()}")
    speeds_by_way: dict[str, list[str]] = {}
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.starmap(timed, [(8, "float32", 1, 0.01)] * cores, chunksize=1)  # they have imported torch
        for state in (nullcontext(), busy_core()):
            with state:
                for name in hardware.DTYPES:
                    for threads in sorted({1, cores}):
                        speed = timed(rows, name, threads, seconds)
                        speeds_by_way.setdefault(f"{name}, {threads} thread{'s' * (threads > 1)}", []).append(
                            f"{speed:.0f}"
                        )
                    parts = pool.starmap(timed, [(rows, name, 1, seconds)] * cores, chunksize=1)
                    speeds_by_way.setdefault(f"{name}, {cores} processes of 1 thread", []).append(f"{sum(parts):.0f}")
    for way, speeds in speeds_by_way.items():
        table.add_row(way, *speeds)
    Console().print(table)
    print(f"measured gain of bfloat16 on one thread: {hardware.gain():.2f}; chosen: {hardware.dtype()}")


if __name__ == "__main__":
    typer.run(main)
