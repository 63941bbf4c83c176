"""A part of a loss that changes from step to step, such as a moving mean. It is saved with checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Stateful(nn.Module, ABC):
    """A part of a loss with a state: numbers that change once a step, however many passes and processes a step takes.

    Every pass notes its share of some sums, such as the step's loss; after the step, `update` is given the whole ones.

    n_sums: how many there are.
    state: the numbers.
    """

    def __init__(self, n_sums: int = 2, **state: Any) -> None:
        super().__init__()
        self.state = state
        self._sums = torch.zeros(n_sums, dtype=torch.float64)

    def note(self, *sums: Tensor | float) -> None:
        """Note what a pass of the model adds to the step's sums, as numbers or as tensors of them."""
        self._sums += torch.cat([torch.as_tensor(part).detach().double().flatten().cpu() for part in sums])

    def noted(self) -> Tensor:
        """The sums since they were last asked for."""
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        return sums

    @abstractmethod
    def update(self, sums: Sequence[float], done: float) -> None:
        """Take a step.

        sums: what all passes and processes noted; by default the step's loss and its number of targets.
        done: the fraction of the training's steps that were taken before it.
        """

    def get_extra_state(self) -> dict[str, Any]:
        return dict(self.state)

    def set_extra_state(self, state: Any) -> None:
        self.state = dict(state)


def parts_of(loss: Any) -> list[Stateful]:
    """The parts of a loss that have a state."""
    return [part for part in loss.modules() if isinstance(part, Stateful)] if isinstance(loss, nn.Module) else []
