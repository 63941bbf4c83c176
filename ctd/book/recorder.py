"""What a notebook leaves in the folder of its run: rows of results, figures, and its answer in a sentence.

Notes: under `ctd run` the folder comes from CTD_RUN_DIR; in an open notebook it is `runs/interactive/` beneath the
current directory.
"""

from __future__ import annotations

import math
import os
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from ctd.book import results
from ctd.book.results import NOT_TESTABLE, RESULTS, IntervalMethod, IntervalOver, Row
from ctd.cache import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = "figures"


class Recorder:
    """Collects the results of one notebook and writes them as `results.json`.

    Example:
        run = Recorder.start(seed)
        run.record("recall@100", 0.372, "fraction", (0.351, 0.394), interval_over="documents", n=500, method="BM25")
        run.figure("recall", figure)
        run.answer("BM25 finds 37 % of the gold labels.", figure="recall")
        run.close()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[tuple[Any, ...], Row] = {}
        self._figures: list[str] = []
        self._answer: dict[str, str | None] | None = None
        self._open = True
        self._began = time.time()
        self._load_seconds = 0.0
        self._is_loading = False

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
        metric: str,
        value: float | int | str | np.generic | None,
        unit: str,
        interval: Sequence[float] | None = None,
        *,
        interval_over: IntervalOver | None = None,
        interval_method: IntervalMethod = "BCa",
        n: int | None = None,
        **dimensions: Any,
    ) -> None:
        """Keep one result.

        metric: what is measured; "ndcg@5" is the metric "ndcg" with k = 5.
        value: a number or a text; None or NaN where there is none, such as the recall of an empty group.
        unit: such as "fraction", "labels", "seconds".
        interval: the ends of its 95 % interval.
        interval_over: what was drawn anew to make the interval.
        interval_method: how the interval was made.
        n: how many documents, seeds, ... the interval rests on; 0 is recorded as none.
        dimensions: what else sets it apart from other results; see `ctd.book.results.Row`.
        Raises ValueError for a result that is recorded already, one that `Row` refuses, or a recorder that is closed.
        """
        self._check_open(metric)
        metric, _, k = metric.partition("@")
        fields = {name: _plain(entry) for name, entry in dimensions.items()} | ({"k": int(k)} if k else {})
        fields |= {"metric": metric, "value": _plain(value), "unit": unit}
        fields |= {"interval_over": interval_over, "n": n or None}
        if interval is not None and fields["value"] is not None:
            fields |= {"interval": tuple(float(end) for end in interval), "interval_method": interval_method}
        try:
            row = Row.model_validate(fields)
        except ValidationError as error:
            raise ValueError(f"cannot record {metric!r}: {results.one_line(error)}") from None
        if row.identity in self._rows:
            raise ValueError(f"{row.label} is recorded already; say in what this result differs from that one")
        self._rows[row.identity] = row

    @property
    def rows(self) -> list[Row]:
        """The results so far, in the order of recording."""
        return list(self._rows.values())

    def record_gain(
        self, metric: str, gain: Any, n_documents: int, n_seeds: int, unit: str = "fraction", **dimensions: Any
    ) -> None:
        """Keep the gain of an arm over a baseline: with its interval over documents, over seeds, and over both.

        gain: a row of `tables.gains`: value, low, high, seed_low, seed_high, both_low and both_high.
        n_documents: how many documents were answered.
        n_seeds: how many students each arm has.
        A single student gives no interval over seeds, nor do students of which one has no value. A measure without
        values of single documents gives none over both.
        Raises what `record` raises.
        """
        ends = (gain.low, gain.high)
        self.record(metric, gain.value, unit, ends, interval_over="documents", n=n_documents, **dimensions)
        others: list[tuple[str, IntervalOver, IntervalMethod, int]] = [
            ("seed", "seeds", "Student's t", n_seeds),
            ("both", "documents and seeds", "Satterthwaite", n_documents),
        ]
        for prefix, over, method, n in others:
            ends = (getattr(gain, f"{prefix}_low", math.nan), getattr(gain, f"{prefix}_high", math.nan))
            if n_seeds > 1 and not math.isnan(ends[0]):
                self.record(
                    metric, gain.value, unit, ends,
                    interval_over=over, interval_method=method, n=n, **dimensions,
                )  # fmt: skip

    def figure(self, name: str, figure: Figure) -> None:
        """Save a figure in `figures/`: see `ctd.book.plots.files.save`.

        Raises ValueError for a name given before, or one that is not made of letters, digits, `-` and `_`.
        """
        from ctd.book.plots import files  # matplotlib takes a second to import

        self._check_open(name)
        if not name or not all(char.isalnum() or char in "-_" for char in name) or name in self._figures:
            raise ValueError(f"a figure's name must be new, of letters, digits, - and _; got {name!r}")
        files.save(figure, self.folder / FIGURES, name)
        self._figures.append(name)

    def answer(self, sentence: str, figure: str | None = None) -> None:
        """Keep the notebook's answer in a sentence, and the figure that shows it.

        figure: the name of a figure that was saved; None where a table shows it.
        Raises ValueError for a second answer, an empty sentence, or a figure that was not saved.
        """
        self._check_open("the answer")
        if self._answer is not None:
            raise ValueError("a notebook has one answer, and it is recorded already")
        if not sentence.strip():
            raise ValueError("the answer needs a sentence, got an empty one")
        if figure is not None and figure not in self._figures:
            saved = ", ".join(self._figures) or "none"
            raise ValueError(f"the answer's figure must be one that was saved ({saved}), got {figure!r}")
        self._answer = {"sentence": sentence, "figure": figure}

    def end_untestable(self, why: str) -> None:
        """End a notebook whose question the texts cannot answer: what is recorded stays, and so does the reason.

        why: the precondition that failed.
        """
        if not results.untestable(self.rows):
            self.record(NOT_TESTABLE, why, unit="reason")
        self._answer = {"sentence": f"**Not testable:** {why}.", "figure": None}
        self.close()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Count the time of a block as loading: reading tasks, models and indexes."""
        if self._is_loading:
            yield
            return
        self._is_loading, began = True, time.time()
        try:
            yield
        finally:
            self._is_loading = False
            self._load_seconds += time.time() - began

    def timings(self) -> dict[str, float]:
        """Seconds until now by what they went into.

        import_s: starting the kernel and importing packages, up to the start of the recorder.
        load_s: reading tasks, models and indexes.
        work_s: everything else.
        """
        started = float(os.environ.get("CTD_KERNEL_STARTED") or self._began)
        seconds = {"import_s": self._began - started, "load_s": self._load_seconds}
        seconds["work_s"] = time.time() - self._began - self._load_seconds
        return {name: round(value, 2) for name, value in seconds.items()}

    def close(self) -> None:
        """Write `results.json`: the results in order, the figures' names, the answer, and what the kernel used."""
        self._check_open("the end")
        self._open = False
        with atomic(self.folder / RESULTS) as scratch:
            results.write(
                self._rows.values(),
                scratch,
                figures=self._figures,
                answer=self._answer,
                peak_memory_mib=round(peak_memory_mib(), 1),
                timings=self.timings(),
                gpu=_gpu(),
            )

    def _check_open(self, what: str) -> None:
        if not self._open:
            raise ValueError(f"cannot record {what}: this recorder is closed; Recorder.start() begins anew")


def _plain(value: Any) -> Any:
    """A value without numpy's types; None for NaN."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


def peak_memory_mib() -> float:
    """The most memory that this process has held, in MiB."""
    try:  # on Linux ru_maxrss also counts the parent as it was at the fork
        status = Path("/proc/self/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    except (OSError, StopIteration):
        peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak_rss / (2**20 if sys.platform == "darwin" else 2**10)


def _gpu() -> str | None:
    """The accelerator that torch sees; None without one, or when this kernel never loaded torch."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
