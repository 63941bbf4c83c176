"""The state of a training (weights, optimizer and log), saved whole and read again, also where it lies in pieces.

Notes: under FSDP every process holds a piece of every weight. Files hold whole weights, so that a run may go on with
another number of processes. All processes take part in saving; the first one writes.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ctd.cache import atomic
from ctd.data.damaged import named_if_damaged

CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.pt", "log.csv"
Log = list[dict[str, float]]


def whole(value: Any) -> Any:
    """A tensor put together from its pieces; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def save(
    folder: Path,
    identity: str,
    trained: Sequence[Tensor],
    optimizer: Any,
    log: Log,
    writes: bool = True,
    loss: Any = None,
) -> None:
    """Save where a run stands, the log first: a run with its last checkpoint has its whole log.

    folder: gets log and checkpoint.
    identity: digest of the run, which `resume` asks for.
    trained: the weights that are trained.
    writes: whether this process writes.
    loss: what is minimised, whose state is saved where it has one.
    """
    weights = [whole(weight.detach()) for weight in trained]
    state = optimizer.state_dict()
    state["state"] = {
        place: {name: whole(value) for name, value in values.items()} for place, values in state["state"].items()
    }
    if not writes:
        return
    with atomic(folder / LOG) as scratch, open(scratch, "w", newline="") as file:
        writer = csv.DictWriter(file, list(log[0]))
        writer.writeheader()
        writer.writerows(log)
    with atomic(folder / CHECKPOINT) as scratch:
        saved = {"identity": identity, "weights": weights, "optimizer": state, "loss": _state(loss), "log": log}
        torch.save(saved, scratch)


def _state(loss: Any) -> dict[str, Any]:
    """What a loss is beside its parameters: the state of its parts, and buffers."""
    if not isinstance(loss, nn.Module):
        return {}
    parameters = {name for name, _ in loss.named_parameters()}
    return {name: value for name, value in loss.state_dict().items() if name not in parameters}


def resume(folder: Path, identity: str, trained: Sequence[Tensor], optimizer: Any, loss: Any = None) -> Log:
    """Take weights, optimizer and the loss's state from the folder's checkpoint, and return its log.

    The log is empty where there is none.

    Raises ValueError for the checkpoint of another run, or a damaged one.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return []
    state = _read(path)
    if not isinstance(state, dict) or state.get("identity") != identity:
        raise ValueError(f"{path} is of a run with other examples, settings or weights: remove it to begin anew")
    take(trained, state["weights"])
    saved = state["optimizer"]
    saved["state"] = {
        place: {name: _spread(value, trained[place]) for name, value in values.items()}
        for place, values in saved["state"].items()
    }
    optimizer.load_state_dict(saved)
    if isinstance(loss, nn.Module):
        loss.load_state_dict(state["loss"], strict=False)
    return list(state["log"])


def save_best(folder: Path, trained: Sequence[Tensor], writes: bool = True) -> None:
    """Save the weights with the lowest validation loss so far."""
    weights = [whole(weight.detach()) for weight in trained]
    if writes:
        with atomic(folder / BEST) as scratch:
            torch.save(weights, scratch)


def take_best(folder: Path, trained: Sequence[Tensor]) -> None:
    """Take the weights that `save_best` saved."""
    take(trained, _read(folder / BEST))


def _read(path: Path) -> Any:
    with named_if_damaged(path):
        with zipfile.ZipFile(path) as archive:  # torch reads over a flipped bit
            if part := archive.testzip():
                raise ValueError(f"the checksum of {part} does not fit")
        return torch.load(path, map_location="cpu", weights_only=True)


@torch.no_grad()
def take(trained: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Overwrite weights, which may be in pieces, by whole ones."""
    for weight, saved in zip(trained, weights, strict=True):
        weight.copy_(_spread(saved, weight))


def _spread(value: Any, weight: Tensor) -> Any:
    """A whole tensor of a weight's shape, cut as the weight is; anything else as it is."""
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
