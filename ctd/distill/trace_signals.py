"""The teacher's signals of every trace: read once and stored for all processes, or read live.

Notes: q, r queries of the two phases in one trace; k heads of a phase; d dimensions.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from ctd import hardware, workers
from ctd.cache import atomic, cache_dir, once
from ctd.data.damaged import named_if_damaged
from ctd.distill.signals import Signals, places, reading
from ctd.keys import Maker
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning.annotate import AnnotatedTrace

SIGNALS = Maker(
    "signals", "ctd.distill.trace_signals", ("model", "annotated_traces", "heads", "uniform", "computed_by")
)
LIBRARIES = ("torch", "transformers")
ChosenHeads = Mapping[Phase, Sequence[Head]]


def computed_by(model: Any) -> list[str]:
    """What the last digits of a computation depend on beside its inputs: libraries and the device of the model."""
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else platform.machine()
    return [*(version(library).partition("+")[0] for library in LIBRARIES), device]


@dataclass(frozen=True, eq=False)
class TraceSignals:
    """The teacher's signals of one trace, as in `Signals`, but with attention to the document's tokens alone."""

    attention: Float[np.ndarray, "q doc"]
    write1: Float[np.ndarray, "q d"]
    gram1: Float[np.ndarray, "k k"]
    split: Float[np.ndarray, "r 3"]
    along: Float[np.ndarray, " r"]
    gram2: Float[np.ndarray, "k k"]


def read(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    heads: ChosenHeads,
    uniform: bool = False,
    rows: int = 16,
    desc: str = "signals",
) -> list[TraceSignals]:
    """The teacher's signals of every trace, in order; attention and writes in half precision.

    heads: the teacher's heads of each phase.
    uniform: read what they would compute if each looked at every token before it alike.
    rows: traces that are read at once.
    Raises ValueError without traces, and what `signals.reading` raises.
    """
    if not traces:
        raise ValueError("there is nothing to read signals from: no trace was given")
    parts = [traces[start : start + rows] for start in range(0, len(traces), rows)]
    seconds = hardware.seconds_to_read(model, sum(len(trace.ids) for trace in traces)) / len(parts)
    on_gpu = int(hardware.on_accelerator(model))
    with tqdm(total=len(parts), desc=desc, unit=" batches") as bar:
        return list(
            chain(*workers.run(_read_batch, parts, (model, heads, uniform), workers=on_gpu, seconds=seconds, bar=bar))
        )


@torch.no_grad()
def _read_batch(shared: tuple[Any, ChosenHeads, bool], traces: Sequence[AnnotatedTrace]) -> list[TraceSignals]:
    model, heads, uniform = shared
    longest = max(len(trace.ids) for trace in traces)
    where = places(traces, longest).on(model.device)
    ids = torch.zeros(len(traces), longest, dtype=torch.int64)
    for row, trace in enumerate(traces):
        ids[row, : len(trace.ids)] = torch.tensor(trace.ids)
    with reading(model, where, heads, uniform) as collected:
        model.get_decoder()(input_ids=ids.to(model.device), use_cache=False)
    batch = collected.signals()
    return [
        TraceSignals(
            batch.attention[where.row1 == row, trace.document.start : trace.document.end].half().cpu().numpy(),
            batch.write1[where.row1 == row].half().cpu().numpy(),
            batch.gram1[row].cpu().numpy(),
            batch.split[where.row2 == row].cpu().numpy(),
            batch.along[where.row2 == row].cpu().numpy(),
            batch.gram2[row].cpu().numpy(),
        )
        for row, trace in enumerate(traces)
    ]


class Live(Sequence[TraceSignals]):
    """Signals that are read whenever they are asked for: nothing on disk, a pass of the teacher each time.

    model: the teacher's.
    traces: what it is read along.
    heads: its heads of each phase.
    uniform: as in `read`.
    """

    def __init__(self, model: Any, traces: Sequence[AnnotatedTrace], heads: ChosenHeads, uniform: bool = False) -> None:
        self.shared, self.traces = (model, heads, uniform), traces

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return _read_batch(self.shared, self.traces[row])
        return _read_batch(self.shared, [self.traces[row]])[0]


class Stored(Sequence[TraceSignals]):
    """Signals in a file, of which only what is asked for is read: a trace of a large teacher has hundreds of KiB.

    path: a file that `stored` wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with named_if_damaged(path):
            self._file = safe_open(path, "np")
            self._n = int(self._file.metadata()["traces"])

    @property
    def nbytes(self) -> int:
        """Bytes that the file takes."""
        return self.path.stat().st_size

    def __reduce__(self) -> tuple[type[Stored], tuple[Path]]:
        return Stored, (self.path,)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(self._n))]
        place = range(self._n)[row]
        names = [field.name for field in fields(TraceSignals)]
        return TraceSignals(**{name: self._file.get_tensor(f"{place}/{name}") for name in names})


def stored(
    model: Any,
    key: str,
    traces: Sequence[AnnotatedTrace],
    heads: ChosenHeads,
    folder: Path | None = None,
    uniform: bool = False,
) -> Stored:
    """Signals as `read` gives them, read once for all processes.

    key: of the model's weights, such as a LanguageModel's.
    folder: where the file lies; the cache's own by default.
    uniform: as in `read`.
    Raises what `read` raises.
    """
    name = SIGNALS.key(
        model=key, annotated_traces=traces, heads={**heads}, uniform=uniform, computed_by=computed_by(model)
    )
    path = (folder or cache_dir("signals")) / f"{name}.safetensors"
    with once(path) as missing:
        if missing:
            arrays = {
                f"{row}/{field.name}": np.ascontiguousarray(getattr(signals, field.name))
                for row, signals in enumerate(read(model, traces, heads, uniform))
                for field in fields(signals)
            }
            with atomic(path) as scratch:
                save_file(arrays, scratch, {"traces": str(len(traces))})
    return Stored(path)


def together(
    parts: Sequence[TraceSignals],
    traces: Sequence[AnnotatedTrace],
    length: int,
    device: torch.device | str = "cpu",
) -> Signals:
    """Signals of some traces as those of a batch, padded on the right to `length` tokens; float32."""
    attention = np.zeros((sum(len(part.attention) for part in parts), length), np.float32)
    start = 0
    for part, trace in zip(parts, traces, strict=True):
        attention[start : start + len(part.attention), slice(*trace.document)] = part.attention
        start += len(part.attention)
    arrays = {"attention": attention}
    arrays |= {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("write1", "split", "along")}
    arrays |= {name: np.stack([getattr(part, name) for part in parts]) for name in ("gram1", "gram2")}
    return Signals(**{name: torch.from_numpy(array).float().to(device) for name, array in arrays.items()})
