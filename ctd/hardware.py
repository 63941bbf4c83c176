"""What this machine is, and what computes well on it.

Notes: a processor that has instructions for bfloat16 may still be faster in float32. So we time the products of which a
transformer consists, once a machine, and keep what we found. CTD_DTYPE (float32 or bfloat16) overrules it. torch is
imported where it is needed, because the command line asks for the machine without it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.cache import atomic, cache_dir, digest, once

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16")
INT8 = "int8"  # is timed where it can be computed, for reading on one thread
ROWS = {"reading": 256, "writing": 16}  # of the products timed: whole texts, and a token of each text of a batch
WIDTH, INNER = 576, 1536  # of SmolLM2-135M
REPETITIONS, SECONDS = 12, 0.1  # of each product: the best counts, so a busy core spoils none; then we stop
MARGIN = 1.1  # how much faster bfloat16 must be than float32, which is exact
CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# Files of a cgroup: the bound of memory and what is taken; and what of that the kernel would give back, in memory.stat.
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VECTORS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # vector instructions, best first: sums depend on them


@dataclass(frozen=True)
class Speed:
    """How fast a matrix product is here.

    work: "reading" or "writing", see `ROWS`.
    dtype: what it is computed in.
    threads: how many compute it.
    gflops: billions of operations a second.
    """

    work: str
    dtype: str
    threads: int
    gflops: float


def dtype(device: str = "cpu") -> str:
    """What models compute in where nobody says: CTD_DTYPE, else bfloat16 where it is fast, float32 elsewhere.

    device: such as "cuda". On a CPU, fast means that one thread is `MARGIN` times as fast as in float32 (the geometric
        mean of reading and writing).
    Raises ValueError where CTD_DTYPE is neither.
    """
    if chosen := os.environ.get("CTD_DTYPE", "").strip():
        if chosen not in DTYPES:
            raise ValueError(f"CTD_DTYPE must be one of {', '.join(DTYPES)}, got {chosen!r}: change it, or unset it")
        return chosen
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if gain() >= MARGIN else "float32"


def int8_is_fast(device: str = "cpu") -> bool:
    """Whether one thread reads `MARGIN` times as fast in whole numbers as in any other dtype.

    device: such as "cuda". False for any but the CPU, and where CTD_DTYPE is set.
    """
    if device != "cpu" or os.environ.get("CTD_DTYPE", "").strip():
        return False
    by_dtype = _reading()
    return by_dtype.pop(INT8, 0.0) >= MARGIN * max(by_dtype.values())


def gain() -> float:
    """How many times as fast as in float32 one thread computes in bfloat16 here."""
    by_work = {(speed.work, speed.dtype): speed.gflops for speed in speeds() if speed.threads == 1}
    return float(prod(by_work[work, "bfloat16"] / by_work[work, "float32"] for work in ROWS) ** (1 / len(ROWS)))


def seconds_to_read(model: Any, n_tokens: int) -> float:
    """About how long one thread takes to run a model over so many tokens; a hint for `workers.run`."""
    name = str(model.dtype).removeprefix("torch.")
    by_dtype = _reading()
    operations = 2 * n_tokens * sum(parameter.numel() for parameter in model.parameters())
    return float(operations / 1e9 / by_dtype.get(name, by_dtype["float32"]))


def _reading() -> dict[str, float]:
    """Billions of operations a second of one thread that reads, by dtype."""
    return {speed.dtype: speed.gflops for speed in speeds() if (speed.work, speed.threads) == ("reading", 1)}


def speeds(again: bool = False) -> tuple[Speed, ...]:
    """How fast the products of a transformer are here, on one thread and on all. Measured once a machine.

    again: measure even so.
    """
    origin = [cpu(), str(cores()), version("torch"), *DTYPES, INT8]
    path = cache_dir("machine") / f"{digest(origin)[:32]}.json"
    if again:
        path.unlink(missing_ok=True)
        _kept.cache_clear()
    try:
        return _kept(path)
    except ValueError:  # not what was written
        return speeds(again=True)


@cache
def _kept(path: Path) -> tuple[Speed, ...]:
    with once(path) as missing:
        if missing:
            with atomic(path) as scratch:
                scratch.write_text(json.dumps([asdict(speed) for speed in measure()], indent=1) + "\n")
    return tuple(Speed(**fields) for fields in json.loads(path.read_text()))


def measure() -> list[Speed]:
    """Time the products, in all dtypes by turns, on one thread and on as many as there are cores.

    One thread is timed by what it computes itself, so that other work beside it does not count.
    """
    import torch

    from ctd import int8_matmul

    before, speeds = torch.get_num_threads(), []
    try:
        for threads, (work, rows) in product(sorted({1, cores()}), ROWS.items()):
            torch.set_num_threads(threads)
            left, right = torch.ones(rows, WIDTH), torch.ones(INNER, WIDTH)
            pairs = {name: [matrix.to(getattr(torch, name)) for matrix in (left, right)] for name in DTYPES}
            ways: dict[str, Callable[[], object]]
            ways = {name: partial(torch.nn.functional.linear, *pair) for name, pair in pairs.items()}
            if work == "reading" and threads == 1 and int8_matmul.is_available():
                ways[INT8] = partial(int8_matmul.Int8Matrix(right.to(torch.int8)).product, left.to(torch.uint8))
            with torch.inference_mode():
                best = _fastest([*ways.values()], time.thread_time if threads == 1 else time.perf_counter)
            operations = 2 * rows * WIDTH * INNER
            speeds += [
                Speed(work, name, threads, round(operations / seconds / 1e9, 1))
                for name, seconds in zip(ways, best, strict=True)
            ]
    finally:
        torch.set_num_threads(before)
    return speeds


def bandwidth() -> float:
    """Billions of bytes a second that one thread reads from memory: the best of a few sums over 256 MiB."""
    import numpy as np

    block = np.ones(2**25)
    return round(block.nbytes / _fastest([block.sum], time.thread_time)[0] / 1e9, 1)


def _fastest(ways: Sequence[Callable[[], object]], clock: Callable[[], float]) -> list[float]:
    """The shortest time of each way, in seconds; they take turns."""
    best, began = [float("inf")] * len(ways), time.perf_counter()
    for repetition in range(REPETITIONS + 1):
        for number, way in enumerate(ways):
            start = clock()
            way()
            if repetition:  # the first one prepares
                best[number] = min(best[number], clock() - start)
        if repetition > 2 and time.perf_counter() - began > SECONDS:
            break
    return best


def describe(device: torch.device | None = None) -> str:
    """What a model runs on, in words: the accelerator's name, or the CPU's threads (also for None)."""
    import torch

    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


def on_accelerator(model: Any) -> bool:
    """Whether a model lies on an accelerator, where a step takes as long for few rows as for many."""
    return bool(model.device.type == "cuda")


def cores() -> int:
    """How many cores this process may use, by its affinity and its container's limit."""
    import joblib

    return int(joblib.cpu_count())


def cpu() -> str:
    """The processor's name, and the best of `VECTORS` that it has where Linux tells."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
        name = re.findall(r"model name\s*:\s*(.+)", cpuinfo)[0]
        return ", ".join([name, *[vectors for vectors in VECTORS if vectors in cpuinfo.split()][:1]])
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def memory() -> tuple[int, int]:
    """Bytes of memory that this process may take at most, and that are free now: the machine's, or its cgroup's."""
    import psutil

    machine = psutil.virtual_memory()
    most, free = machine.total, machine.available
    for folder, (name_of_limit, name_of_usage, reclaimable) in _cgroups():
        try:
            limit = int((folder / name_of_limit).read_text())
            taken = int((folder / name_of_usage).read_text())
            file_pages = re.search(rf"^{reclaimable} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # no such file, or "max"
            continue
        most = min(most, limit)
        free = min(free, max(0, limit - taken + (int(file_pages[1]) if file_pages else 0)))
    return most, free


def _cgroups() -> list[tuple[Path, tuple[str, str, str]]]:
    """The folders of this process's cgroup of memory and of those above it, each with the names of its files.

    There are none on another system than Linux.
    """
    try:
        lines = [line.split(":", 2) for line in CGROUP.read_text().splitlines()]
    except OSError:
        return []
    folders = []
    for _, controllers, name in lines:
        if controllers and "memory" not in controllers.split(","):
            continue
        base, files = (CGROUPS / "memory", VERSION_1) if controllers else (CGROUPS, VERSION_2)
        place = base / name.lstrip("/")
        folders += [(folder, files) for folder in (place, *place.parents) if folder.is_relative_to(base)]
    return folders


def machine() -> dict[str, Any]:
    """What this machine is.

    cpu: see `cpu`.
    cores: those that this process may use.
    memory_gib: its memory.
    cpu_dtype: what models on the processor compute in where nobody says.
    """
    import psutil

    memory = round(psutil.virtual_memory().total / 2**30, 1)
    return {"cpu": cpu(), "cores": cores(), "memory_gib": memory, "cpu_dtype": dtype()}
