"""Where a training stands: weights, optimizer and log, saved whole and read again, also where they lie in pieces.

Notes: under FSDP every process holds a piece of every weight. Files hold whole ones, so that a run may go on with
another number of processes. What is said of saving holds of all processes: each takes part, the first one writes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from ctd.cache import atomic

CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.pt", "log.csv"
Log = list[dict[str, float]]


def whole(value: Any) -> Any:
    """A tensor without its pieces being spread; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def save(folder: Path, identity: str, trained: Sequence[Tensor], optimizer: Any, log: Log, writes: bool = True) -> None:
    """Keep where a run stands, the log first: a run whose last checkpoint stands has its whole log.

    identity: of the run, which `resume` asks for. writes: whether this process does.
    """
    weights = [whole(weight.detach()) for weight in trained]
    state = optimizer.state_dict()
    state["state"] = {place: {name: whole(of) for name, of in kept.items()} for place, kept in state["state"].items()}
    if not writes:
        return
    with atomic(folder / LOG) as scratch, open(scratch, "w", newline="") as file:
        writer = csv.DictWriter(file, list(log[0]))
        writer.writeheader()
        writer.writerows(log)
    with atomic(folder / CHECKPOINT) as scratch:
        torch.save({"identity": identity, "weights": weights, "optimizer": state, "log": log}, scratch)


def resume(folder: Path, identity: str, trained: Sequence[Tensor], optimizer: Any) -> Log:
    """Take weights and optimizer from the folder's checkpoint; its log, empty where there is none.

    Raises ValueError for the checkpoint of another run.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        raise ValueError(f"{path} is of a run with other examples, settings or weights: remove it to begin anew")
    take(trained, state["weights"])
    kept = state["optimizer"]
    kept["state"] = {
        place: {name: _spread(of, trained[place]) for name, of in one.items()} for place, one in kept["state"].items()
    }
    optimizer.load_state_dict(kept)
    return list(state["log"])


def save_best(folder: Path, trained: Sequence[Tensor], writes: bool = True) -> None:
    """Keep the weights with the lowest validation loss so far."""
    weights = [whole(weight.detach()) for weight in trained]
    if writes:
        with atomic(folder / BEST) as scratch:
            torch.save(weights, scratch)


def take_best(folder: Path, trained: Sequence[Tensor]) -> None:
    """Take the weights that `save_best` kept."""
    take(trained, torch.load(folder / BEST, map_location="cpu", weights_only=True))


@torch.no_grad()
def take(trained: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Overwrite weights, which may be spread, by whole ones."""
    for weight, saved in zip(trained, weights, strict=True):
        weight.copy_(_spread(saved, weight))


def _spread(value: Any, weight: Tensor) -> Any:
    """A whole tensor of a weight's shape, in pieces as the weight is; anything else as it is."""
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
