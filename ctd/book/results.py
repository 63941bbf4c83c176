"""What a notebook leaves behind: numbers with names and units, and figures, in the folder of its run.

Notes: under `ctd run` the folder comes from CTD_RUN_DIR; in an open notebook it is `runs/interactive/` beneath the
current directory.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctd.cache import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = "results.json"
FIGURES = "figures"
DPI = 160


class Recorder:
    """Collects the results of one notebook and writes them as `results.json`.

    Example:
        run = Recorder.start(seed)
        run.record("recall@100", 0.372, "fraction", (0.351, 0.394))
        run.figure("recall", figure)
        run.close()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results: dict[str, dict[str, Any]] = {}
        self._figures: list[str] = []
        self._open = True

    @classmethod
    def start(cls, seed: int | None = None) -> Recorder:
        """A recorder for the run that this kernel belongs to. With a seed, seeds python, numpy and torch."""
        if seed is not None:
            import torch

            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (libraries that draw from the global generator)
            torch.manual_seed(seed)
        folder = Path(os.environ.get("CTD_RUN_DIR") or "runs/interactive").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def record(
        self,
        name: str,
        value: float | int | str | np.generic | None,
        unit: str,
        interval: tuple[float, float] | None = None,
        over_seeds: tuple[float, float] | None = None,
    ) -> None:
        """Keep one result. unit: such as "fraction", "labels", "seconds". interval: its low and high end.

        over_seeds: another interval of the same value, where the first is over documents; kept as a result of its own,
        named "<name>, over seeds", unless its ends are NaN: one seed tells no interval. A value may be None or NaN:
        there is none, such as the recall of an empty group, and no interval.
        Raises ValueError for a name given before, an empty name or unit, a value that is no number, text or None or is
        infinite, an interval that is not two finite numbers in order, or a recorder that is closed.
        """
        self._check_open(name)
        if isinstance(value, float | np.floating) and np.isnan(value):
            value, interval = None, None
        if not name or not unit:
            raise ValueError(f"a result needs a name and a unit, got name {name!r} and unit {unit!r}")
        if name in self._results:
            raise ValueError(f"result {name!r} is recorded already; names are unique in a run")
        ends = None if interval is None else [float(end) for end in interval]
        if ends is not None and (len(ends) != 2 or not np.isfinite(ends).all() or ends[0] > ends[1]):
            raise ValueError(f"the interval of {name!r} must be finite (low, high) in order, got {interval!r}")
        self._results[name] = {"name": name, "value": _plain(name, value), "unit": unit, "interval": ends}
        if over_seeds is not None and not np.isnan(over_seeds).all():
            self.record(f"{name}, over seeds", value, unit, over_seeds)

    def figure(self, name: str, figure: Figure) -> None:
        """Save a figure as `figures/<name>.png`, with an opaque white face that is legible in a dark theme.

        Raises ValueError for a name given before, or one that is not made of letters, digits, `-` and `_`.
        """
        self._check_open(name)
        if not re.fullmatch(r"[\w-]+", name) or name in self._figures:
            raise ValueError(f"a figure's name must be new, of letters, digits, - and _; got {name!r}")
        with atomic(self.folder / FIGURES / f"{name}.png") as scratch:
            figure.savefig(scratch, format="png", dpi=DPI, facecolor="white", transparent=False)
        self._figures.append(name)

    def close(self) -> None:
        """Write `results.json`: the results in order, the figures' names, and what the kernel used."""
        self._check_open("the end")
        self._open = False
        content = {
            "results": list(self._results.values()),
            "figures": self._figures,
            "peak_memory_mib": round(peak_memory_mib(), 1),
            "gpu": _gpu(),
        }
        with atomic(self.folder / RESULTS) as scratch:
            scratch.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def _check_open(self, what: str) -> None:
        if not self._open:
            raise ValueError(f"cannot record {what}: this recorder is closed; Recorder.start() begins anew")


def _plain(name: str, value: Any) -> float | int | str | None:
    """A value as JSON can hold it."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise ValueError(f"{name!r} must be a number, text or None, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name!r} must be finite, or None where there is no value, got {value}")
    return value


def peak_memory_mib() -> float:
    """The most memory that this process has held, in MiB."""
    try:  # on Linux ru_maxrss also counts the parent as it was at the fork
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**10
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _gpu() -> str | None:
    """The accelerator that torch sees; None without one, or when this kernel never loaded torch."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
