"""How a text is to be written: its length, how tokens are drawn, where it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS = (("stop", tuple), ("temperature", float), ("top_p", float), ("repetition_penalty", float))


@dataclass(frozen=True)
class Sampling:
    """How a model is to write.

    max_tokens: written after a prompt at most.
    temperature: 0 takes the likeliest token.
    top_p: tokens are drawn from the likeliest that make up so much of the probability.
    seed: of what is drawn.
    stop: strings that end a text.
    top_k: tokens are drawn from so many of the likeliest; 0 for all.
    repetition_penalty: by which the logits of tokens that prompt or text hold are divided (multiplied below 0); 1 for
        none.
    Raises ValueError for a setting out of bounds.
    """

    max_tokens: int = 640
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: Sequence[str] = ()
    top_k: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise ValueError(f"stop must be a list of strings, got the string {self.stop[:40]!r}")
        for name, kind in KINDS:
            object.__setattr__(self, name, kind(getattr(self, name)))
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be at least 0 (0: always the likeliest token), got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0 (0: any token), got {self.top_k}")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ValueError(f"repetition_penalty must be above 0 (1: none), got {self.repetition_penalty}")
        if "" in self.stop:
            raise ValueError("a stop string must not be empty: it would end every text before its first token")

    @property
    def decisive(self) -> str:
        """The settings on which the text depends, in words."""
        words = [f"max_tokens {self.max_tokens}, stop {self.stop!r}"]
        if self.temperature:
            words.append(f"temperature {self.temperature!r}, top_p {self.top_p!r}, seed {self.seed}")
            words += [f"top_k {self.top_k}"] if self.top_k else []
        words += [f"repetition_penalty {self.repetition_penalty!r}"] if self.repetition_penalty != 1 else []
        return ", ".join(words)

    def batch_seed(self, batch: int) -> int:
        """A seed of 31 bits for the batch of that number."""
        return int(np.random.SeedSequence((self.seed, batch)).generate_state(1)[0]) >> 1
