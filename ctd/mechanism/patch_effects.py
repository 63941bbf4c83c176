"""What patching heads changed: readouts of all runs, the double dissociation, and text beside the published values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd import stats
from ctd.cache import DATA
from ctd.mechanism.head_bins import BINS, OF, RANDOM, TOP, random_kind
from ctd.mechanism.phases import Phase

Way = Literal["noising", "denoising"]

PANELS = (
    ("focus", Phase.SHORTLIST, "noising", "phase1_noising_focus_percent", 100),
    ("confusion", Phase.REFINE, "denoising", "phase2_denoising_confusion", 1),
    ("confusion", Phase.REFINE, "noising", "phase2_noising_confusion", 1),
)
"""What the paper shows of text written under an intervention, and its name and unit in `data/published.json`."""


RANDOM_PERCENTILE = 99  # of the random sets, which a patching claim has to pass (our rule)
DECIMALS = 5  # of a readout, nats or logits
MATTERS = 0.05  # the smallest effect that would matter, nats or logits (our rule)


class AgainstRandom(NamedTuple):
    """The mean effect of a set of heads, and those of random sets like it.

    effect: of the heads.
    random: of each random set.
    """

    effect: float
    random: Float[np.ndarray, " sets"]

    @property
    def percentile(self) -> float:
        """How many of 100 random sets have a smaller effect; a tie counts half."""
        return 100 * float(((self.random < self.effect) + 0.5 * (self.random == self.effect)).mean())

    @property
    def bound(self) -> float:
        """The 99th percentile of the random sets."""
        return float(np.percentile(self.random, RANDOM_PERCENTILE, method="higher"))

    @property
    def passes(self) -> bool:
        """Whether the effect is above 0 and beyond the 99th percentile of the random sets."""
        return self.effect > max(0.0, self.bound)

    @property
    def found(self) -> bool:
        """Whether it passes and is large enough to matter."""
        return self.passes and self.effect >= MATTERS


def joined(parts: Sequence[Effects]) -> Effects:
    """Effects on the same documents of several interventions that go the same way, as those of one.

    The unpatched runs are those of the first; what each patch moves stays as it is.
    """
    first, into = parts[0], [0] if parts[0].way == "noising" else [1]
    values = {
        name: np.concatenate(
            [runs[:, :2], *(part.values[name][:, 2:] - part.values[name][:, into] + runs[:, into] for part in parts)], 1
        )
        for name, runs in first.values.items()
    }
    return Effects(first.way, tuple(key for part in parts for key in part.keys), values)


@dataclass(frozen=True, eq=False)
class Effects:
    """Readouts of every run of every document.

    way: noising or denoising.
    keys: kind and number of the heads that each patched run patched.
    values: of each readout, NaN where it is not defined. The first two runs are the clean and the corrupted one, the
        others those of `keys`.
    """

    way: Way
    keys: tuple[tuple[str, int], ...]
    values: dict[str, Float[np.ndarray, "n runs"]]

    def runs(self, readout: str, key: tuple[str, int]) -> tuple[Float[np.ndarray, " n"], ...]:
        """A readout of the clean, the corrupted and the patched run of each document that has one.

        key: kind and number of the heads; a kind stands for the mean of all those whose name begins so ("random").
        Raises ValueError for another key.
        """
        patched = [2 + n for n, (kind, size) in enumerate(self.keys) if size == key[1] and kind.startswith(key[0])]
        if not patched:
            raise ValueError(f"key must be one of {sorted(set(self.keys))}, got {key}")
        values = self.values[readout]
        values = values[~np.isnan(values).any(1)]
        return values[:, 0], values[:, 1], values[:, patched].mean(1)

    def moved(self, readout: str, key: tuple[str, int]) -> Float[np.ndarray, " n"]:
        """What a patch takes from each clean run (noising) or gives to each corrupted one (denoising).

        Rounded to what float32 can tell: a patch that changes nothing moves exactly 0, and ties with others like it.
        key, errors: as in `runs`.
        """
        clean, corrupted, patched = self.runs(readout, key)
        return np.round(clean - patched if self.way == "noising" else patched - corrupted, DECIMALS) + 0.0

    def between(self, readout: str, seed: int = 0) -> stats.Interval:
        """What the corruption takes: mean of clean - corrupted, with its interval."""
        clean, corrupted, _ = self.runs(readout, self.keys[0])
        return stats.bootstrap_mean(clean - corrupted, seed=seed)

    def against_random(self, readout: str, key: tuple[str, int], kind: str) -> AgainstRandom:
        """What a patch moves on average, beside the same of each random set.

        readout, key, errors: as in `runs`.
        kind: of the random sets, which have the key's number of heads.
        """
        sets = [number for number, size in self.keys if size == key[1] and number.startswith(kind)]
        moved = [float(self.moved(readout, (number, key[1])).mean()) for number in sets]
        return AgainstRandom(float(self.moved(readout, key).mean()), np.array(moved))

    def table(self, seed: int = 0) -> pd.DataFrame:
        """What each kind and number of heads moves, mean over the n documents that have the readout.

        Returns columns readout, heads, size, value, low, high, n.
        """
        keys = dict.fromkeys((RANDOM if kind.startswith(RANDOM) else kind, size) for kind, size in self.keys)
        rows = [
            (readout, *key, *_mean_and_n(self.moved(readout, key), seed)) for readout in self.values for key in keys
        ]
        return pd.DataFrame(rows, columns=["readout", "heads", "size", "value", "low", "high", "n"])


def _mean_and_n(values: Float[np.ndarray, " n"], seed: int) -> tuple[float, float, float, int]:
    return *stats.bootstrap_mean(values, seed=seed).scalar, len(values)


def dissociation(noised: Effects, phases: Sequence[Phase], size: int, seed: int = 0) -> pd.DataFrame:
    """The double dissociation: what noising a phase's highest heads costs each readout beyond noising random heads.

    noised: with the `selections` of these phases.
    size: how many heads were noised.
    Returns columns noised, readout, value, low, high, n, in the readout's units (paired bootstrap over the n documents
        that have the readout).
    Raises ValueError for a size that was not run.
    """
    rows = []
    for phase in phases:
        for readout in noised.values:
            random = noised.moved(readout, (random_kind(phase), size))
            beyond = noised.moved(readout, (f"{phase}, {TOP}", size)) - random
            rows.append((str(phase), readout, *_mean_and_n(beyond, seed)))
    return pd.DataFrame(rows, columns=["noised", "readout", "value", "low", "high", "n"])


def written_table(written: Mapping[str, Effects], n_heads: int, seed: int = 0) -> pd.DataFrame:
    """Focus and Confusion of what was written, beside the published values (arXiv:2606.06840, authors' figure notes).

    written: by way, with the readouts of `targets.at_end` and `selections` of both phases.
    n_heads: of the model.
    Returns columns panel, line, share (of all heads; 0 where none is patched), value, low, high (NaN where published),
        n (documents that have the readout; 0 where published).
    """
    published = json.loads((DATA / "published.json").read_text("utf-8"))["patching"]
    rows: list[tuple[str, str, float, float, float, float, int]] = []
    for readout, phase, way, name, unit in PANELS:
        panel = f"{readout}, {phase}, {way}"
        for line, kind in (("heads of the phase", f"{phase}, {TOP}"), ("random heads", random_kind(phase))):
            runs = _runs_by_size(written[way], readout, kind)
            rows += [(panel, line, size / n_heads, *_mean_and_n(values, seed)) for size, values in runs]
        values = [published[name].get("clean", published[name].get("corrupted")), *published[name]["patched"]]
        rows += [
            (panel, "published", size / OF, value / unit, np.nan, np.nan, 0)
            for size, value in zip((0, *BINS), values, strict=True)
        ]
    return pd.DataFrame(rows, columns=["panel", "line", "share", "value", "low", "high", "n"])


def _runs_by_size(effects: Effects, readout: str, kind: str) -> list[tuple[int, Float[np.ndarray, " n"]]]:
    """How many heads were patched, and the readout of these runs, smallest first; the unpatched run has none."""
    keys = sorted((key for key in effects.keys if key[0].startswith(kind)), key=itemgetter(1))
    unpatched = effects.runs(readout, keys[0])[0 if effects.way == "noising" else 1]
    return [(0, unpatched), *((key[1], effects.runs(readout, key)[2]) for key in keys)]
