"""When a training is stopped early: after so many looks at validation examples without a lower loss."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from ctd.distill.checkpoint import Log


def looks_since_lowest(log: Log) -> int | None:
    """How many looks at the validation examples ago their loss was lowest; None where the last row has no look."""
    looks = [row["validation"] for row in log if not isnan(row["validation"])]
    return None if not log or isnan(log[-1]["validation"]) else len(looks) - 1 - looks.index(min(looks))


def steps_to_lowest(log: Sequence[dict[str, float]]) -> int:
    """How many rows of a log there are up to the first of the lowest validation losses of its last training."""
    begun = max(place for place, row in enumerate(log) if row["step"] == 0)
    looks = [(row["validation"], place) for place, row in enumerate(log) if not isnan(row["validation"])]
    return min(look for look in looks if look[1] >= begun)[1] + 1


def ended(log: Log, patience: int) -> bool:
    """Whether so many looks in a row had no lower validation loss."""
    return bool(patience) and (looks_since_lowest(log) or 0) >= patience
