"""How to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """How to train with AdamW, betas 0.9 and 0.95.

    batch_tokens: tokens of one step, padding counted.
    pass_tokens: of these, how many go through the model at once (gradient accumulation); 0 for all of them.
    learning_rate: the highest learning rate.
    warmup_steps: steps over which it rises.
    decay: the last fraction of the steps, over which it falls to zero.
    fall: how it falls: in a line, or as a cosine.
    weight_decay: AdamW's weight decay.
    clip: norm at which the gradient is clipped.
    epochs: how often every example comes.
    n_steps: how many steps of all epochs to take; 0 for all of them.
    shuffle: examples come in the order given, but for a shuffle within so many; 1 for the order given.
    seed: draws the order of examples and what is random in the loss.
    save_every: steps between checkpoints.
    check_every: steps between looks at the validation examples.
    patience: looks in a row without a lower validation loss after which training ends, and the weights of the lowest
        are taken; 0 to go on to the end.
    mixed: compute in bfloat16 where that loses little (autocast); the weights stay as they are.
    Raises ValueError for a number out of range.
    """

    batch_tokens: int = 4096
    pass_tokens: int = 0
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    decay: float = 0.3
    fall: Literal["linear", "cosine"] = "linear"
    weight_decay: float = 0.0
    clip: float = 1.0
    epochs: int = 1
    n_steps: int = 0
    shuffle: int = 512
    seed: int = 0
    save_every: int = 50
    check_every: int = 100
    patience: int = 0
    mixed: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "epochs", "shuffle", "save_every", "check_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("pass_tokens", "warmup_steps", "weight_decay", "n_steps", "seed", "patience"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {self.decay}")
        if self.fall not in ("linear", "cosine"):
            raise ValueError(f"fall must be linear or cosine, got {self.fall!r}")
