"""TAID: the target moves from the student's own distribution to the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import torch
from jaxtyping import Float
from torch import Tensor

from ctd.distill.methods.token_by_token import Seen, fixed
from ctd.distill.stateful import Stateful


class Taid(Stateful):
    """Cross-entropy with a mixture of the student's and the teacher's logits, which becomes the teacher's.

    The mixture is taken as given, so that at t = 1 the gradient is that of the forward KL, and at t = 0 there is none.
    After every step but the first, t grows by how much the loss fell, and at least to a line from `start` to 1.

    start: t at the beginning.
    speed: how much t grows by the fall of the loss.
    momentum: of the mean of these falls.

    Source: Shing et al. (2025), arXiv:2501.16937, and the authors' code.
    """

    def __init__(self, start: float = 0.4, speed: float = 5e-4, momentum: float = 0.99) -> None:
        if not 0 <= start <= 1:
            raise ValueError(f"start must be between 0 and 1, got {start}")
        super().__init__(t=start, mean_fall=0.0, loss=None)
        self.start, self.speed, self.momentum = start, speed, momentum

    def forward(self, seen: Seen) -> Float[Tensor, " m"]:
        """The cross-entropy of each target."""
        mixed = torch.lerp(fixed(seen.log_p), seen.teacher_log_p, self.state["t"]).log_softmax(-1)
        return -(mixed.exp() * seen.log_p).sum(-1)

    def update(self, sums: Sequence[float], done: float) -> None:
        """Move the target."""
        mean = sums[0] / sums[1]
        t, before = self.state["t"], self.state["loss"]
        self.state["loss"] = mean
        if before is None:
            return
        fall = (before - mean) / (before + 1e-15)
        mean_fall = self.momentum * self.state["mean_fall"] + (1 - self.momentum) * fall
        adapted = t + self.speed / (1 + exp(-mean_fall)) * (1 - t)
        line = self.start + (1 - self.start) * done
        self.state |= {"mean_fall": mean_fall, "t": min(1.0, max(line, adapted))}
