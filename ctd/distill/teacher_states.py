"""The teacher's last hidden state at every learned token: computed once and stored for all processes, or live.

Notes: the teacher's output layer turns a state into its distribution over the next token. So a student that learns from
distributions needs no pass of the teacher in a step, and nothing of them is cut off: loss and gradient are those of a
live pass but for rounding. The usual cache of the 64 most probable tokens and the mass of the rest was measured on the
traces of organism and smollm2-mesh. It moves the gradient of the forward KL by 0.3 to 5 % and that of the reverse KL by
10 to 98 %, which depends on how the teacher ranks improbable tokens. n targets of a batch, d dimensions of the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from ctd.cache import atomic, cache_dir, once
from ctd.data.damaged import named_if_damaged
from ctd.distill import trace_signals
from ctd.distill.examples import IGNORED, Batch, Example, batches, collate
from ctd.distill.settings import Settings
from ctd.distill.token_loss import last_hidden
from ctd.keys import Maker

STATES = Maker("teacher_states", "ctd.distill.teacher_states", ("model", "examples", "computed_by"))
AT_ONCE = 4096  # tokens that go through the teacher at once
States = Callable[[Batch], Float[Tensor, "n d"]]
"""The teacher's last hidden state at each target of a batch, in the order of the batch."""


class Live:
    """The states of a pass of the teacher for every batch: nothing on disk.

    model: the teacher's.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Float[Tensor, "n d"]:
        return last_hidden(self.model, batch, batch.targets != IGNORED)


class Stored:
    """The states of all examples in a file, mapped into memory: all processes share it.

    path: a file that `stored` wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with named_if_damaged(path), safe_open(path, "pt") as file:
            self._states: Float[Tensor, "all d"] = file.get_tensor("states")
            self._starts: list[int] = file.get_tensor("starts").tolist()

    @property
    def nbytes(self) -> int:
        """Bytes that the file takes."""
        return self.path.stat().st_size

    def __reduce__(self) -> tuple[type[Stored], tuple[Path]]:
        return Stored, (self.path,)

    def __call__(self, batch: Batch) -> Float[Tensor, "n d"]:
        """Raises ValueError for a batch of other targets than those whose states are stored."""
        n_stored = sum(self._starts[row + 1] - self._starts[row] for row in batch.rows)
        if batch.n_targets == 0:  # a pass that has nothing to learn
            return self._states[:0].to(batch.ids.device)
        if n_stored != batch.n_targets:
            raise ValueError(f"a batch of {batch.n_targets} targets asks for the states of {n_stored}")
        parts = [self._states[self._starts[row] : self._starts[row + 1]] for row in batch.rows]
        return torch.cat(parts).to(batch.ids.device)


def stored(model: Any, key: str, examples: Sequence[Example], folder: Path | None = None) -> Stored:
    """The states of every example, computed once for all processes.

    model: the teacher's.
    key: of the model's weights, such as a LanguageModel's.
    examples: what students learn from; their batches ask for the states.
    folder: where the file lies; the cache's own by default.
    """
    name = STATES.key(model=key, examples=examples, computed_by=trace_signals.computed_by(model))
    path = (folder or cache_dir("teacher_states")) / f"{name}.safetensors"
    with once(path) as missing:
        if missing:
            parts = _computed(model, examples)
            starts = torch.tensor([0, *np.cumsum([len(part) for part in parts])])
            with atomic(path) as scratch:
                save_file({"states": torch.cat(parts), "starts": starts}, scratch)
    return Stored(path)


def _computed(model: Any, examples: Sequence[Example]) -> list[Float[Tensor, "n d"]]:
    """The states of each example's targets, in the order of the examples."""
    live = Live(model)
    parts: dict[int, Tensor] = {}
    steps = batches(examples, Settings(batch_tokens=AT_ONCE))
    for rows in tqdm(steps, desc="the teacher's states", unit=" batches"):
        batch = collate(examples, rows, model.device)
        counts = (batch.targets != IGNORED).sum(1).tolist()
        parts |= dict(zip(rows, live(batch).cpu().split(counts), strict=True))
    return [parts[row] for row in range(len(examples))]
