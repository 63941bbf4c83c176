"""What writing cost on this machine: recorded whenever a model writes, and read for estimates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctd import hardware
from ctd.cache import cache_dir, digest
from ctd.reasoning.models import LanguageModel

FEWEST = 200  # tokens of a record that counts: shorter ones are start-up
SMALLEST = 1_000_000  # parameters of a model that says something about others


@dataclass(frozen=True)
class Cost:
    """One recording.

    model: key of the model.
    parameters: of the model.
    texts: how many were written.
    tokens: how many were written; reading the prompts is part of the time.
    seconds: that it took, other processes included.
    """

    model: str
    parameters: int
    texts: int
    tokens: int
    seconds: float


class Spread(NamedTuple):
    """A quantity as it was on this machine: the 10th, 50th and 90th of 100 recordings, and how many there were."""

    low: float
    middle: float
    high: float
    n: int


def record(language_model: LanguageModel, texts: int, tokens: int, seconds: float) -> None:
    """Keep what writing took. Nothing is kept of short texts, nor where the cache cannot be written."""
    if tokens >= FEWEST:
        parameters = language_model.model.num_parameters()
        line = json.dumps(asdict(Cost(language_model.key, parameters, texts, tokens, round(seconds, 3))))
        with suppress(OSError), open(_file(), "a", encoding="utf-8") as file:
            file.write(line + "\n")


def recorded() -> list[Cost]:
    """All recordings of this machine; a line that was torn is left out."""
    costs = []
    lines = _file().read_text(encoding="utf-8").splitlines() if _file().is_file() else []
    for line in lines:
        with suppress(ValueError, TypeError):
            costs.append(Cost(**json.loads(line)))
    return costs


def seconds_a_token(costs: Sequence[Cost], parameters: int) -> Spread | None:
    """Seconds for each token that a model of that size writes; None without recordings.

    costs: recordings; those of the same size count where there are some, else all, in proportion to their sizes.
    parameters: of the model.
    """
    same = [cost for cost in costs if cost.parameters == parameters]
    comparable = same or [cost for cost in costs if cost.parameters >= SMALLEST]
    if not comparable:
        return None
    return _spread([cost.seconds / cost.tokens * parameters / cost.parameters for cost in comparable])


def tokens_a_text(costs: Sequence[Cost], parameters: int) -> Spread | None:
    """Tokens of a text by a model of that size; None without recordings of one."""
    same = [cost.tokens / cost.texts for cost in costs if cost.parameters == parameters and cost.texts]
    return _spread(same) if same else None


def _spread(values: Sequence[float]) -> Spread:
    low, middle, high = np.percentile(values, [10, 50, 90]).tolist()
    return Spread(low, middle, high, len(values))


def _file() -> Path:
    return cache_dir("machine") / f"costs-{digest([hardware.cpu(), str(hardware.cores())])[:16]}.jsonl"
