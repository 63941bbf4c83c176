"""What recording and patching heads cost beside a plain forward pass of the same batch: time, and peak memory."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctd.book.recorder import peak_memory_mib
from ctd.mechanism import attention, attention_patches, head_bins
from ctd.reasoning import architecture, models


def contexts(model: Any, rows: int, n_recorded: int) -> dict[str, Callable[[], Any]]:
    """What is compared: the ways to run one forward pass, by name."""
    every = attention.all_heads(model)
    recorded = every[:: max(1, len(every) // n_recorded)][:n_recorded]
    selected = list(head_bins.selections({"all": every}, head_bins.bins(len(every))).values())
    heads = torch.zeros(rows, *architecture.shape(model)[:2], dtype=torch.bool)
    for row in range(2, rows):
        for layer, head in selected[(row - 2) % len(selected)]:
            heads[row, layer, head] = True
    source = [0, *[1] * (rows - 1)]
    return {
        "plain": nullcontext,
        f"record {len(recorded)} heads": lambda: attention.record(model, recorded),
        "read every pattern, keep none": lambda: attention.attention_hooks(model, read),
        "patch patterns, a bin a row": lambda: attention_patches.patch(model, heads, source),
        "patch outputs, a bin a row": lambda: attention_patches.patch(model, heads, source, "output"),
    }


def read(attended: attention.Attended) -> None:
    for row in range(len(attended.query)):
        attended.patterns(range(attended.query.shape[1]), [row]).amax()


def main(
    model: Annotated[str, typer.Option(help="a model's name, folder or id")] = models.SMOLLM2,
    rows: Annotated[int, typer.Option(min=3, help="runs in the batch")] = 8,
    tokens: Annotated[int, typer.Option(min=8, help="tokens of each")] = 450,
    recorded: Annotated[int, typer.Option(min=1, help="heads that are recorded")] = 16,
    runs: Annotated[int, typer.Option(min=1, help="timed runs of each; medians are compared")] = 5,
) -> None:
    """Time each way in turn, again and again, and print the ratio of its median to the plain pass."""
    loaded: Any = models.load(model, dtype="bfloat16").model
    ids = torch.randint(5, 1000, (rows, tokens), generator=torch.Generator().manual_seed(0))
    ways = contexts(loaded, rows, recorded)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in track(range(runs + 1), description="timing"):
            for name, way in ways.items():
                Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
                start = time.perf_counter()
                with way():
                    loaded(input_ids=ids, use_cache=False, logits_to_keep=1)
                seconds[name].append(time.perf_counter() - start)
                memory[name].append(peak_memory_mib())
    table = Table("way", "median s", "ratio to plain", "peak MiB", "ratio", title=f"{model}, {rows} x {tokens} tokens")
    plain = statistics.median(seconds["plain"][1:])
    for name, took in seconds.items():
        median, most = statistics.median(took[1:]), max(memory[name][1:])
        ratio = most / max(memory["plain"][1:])
        table.add_row(name, f"{median:.2f}", f"{median / plain:.2f}", f"{most:.0f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
