"""A part of a loss that changes from step to step, such as a moving mean. It is saved with checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Stateful(nn.Module, ABC):
    """A part of a loss with a state: numbers that change once a step, however many passes and processes a step takes.

    Every pass notes its share of the step's loss; after the step, `update` is given the mean.
    """

    def __init__(self, **state: Any) -> None:
        super().__init__()
        self.state = state
        self._total, self._n_targets = 0.0, 0

    def note(self, total: Tensor, n_targets: int) -> None:
        """Note what a pass of the model adds to the step's loss.

        total: summed over its targets.
        """
        self._total += total.item()
        self._n_targets += n_targets

    def noted(self) -> Tensor:
        """What was noted since it was last asked for: the summed loss, and of how many targets."""
        noted = torch.tensor([self._total, self._n_targets], dtype=torch.float64)
        self._total, self._n_targets = 0.0, 0
        return noted

    @abstractmethod
    def update(self, mean: float, done: float) -> None:
        """Take a step.

        mean: the step's loss, a token.
        done: the fraction of the training's steps that were taken before it.
        """

    def get_extra_state(self) -> dict[str, Any]:
        return dict(self.state)

    def set_extra_state(self, state: Any) -> None:
        self.state = dict(state)


def parts_of(loss: Any) -> list[Stateful]:
    """The parts of a loss that have a state."""
    return [part for part in loss.modules() if isinstance(part, Stateful)] if isinstance(loss, nn.Module) else []
