"""Focus and Confusion of what is being written at t, beyond what any text of the kind has; and what an encoder allows.

Notes: all forms are our definition, and stand beside the published ones under their own name. The published curves
follow everything written so far, whose first line names the topics, so that Focus is high from the start and can hardly
change. Here a window slides along the chain of thought, its line of topics is left out, vectors are centred, and of
each cosine the mean over other documents' targets is taken away: 0 is a text about nothing in particular. n documents,
g grid points, d dimensions.

    cut = [topicless(trace) for trace in traces]
    windows = embed_windows([trace.cot for trace in cut], boundaries(traces), encoder)
    measured = centred(windows, goals)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd.mechanism import curve_means
from ctd.mechanism.cot_prefixes import PrefixVectors, prefixes
from ctd.mechanism.curve_means import check_lengths
from ctd.mechanism.embed_text import embed
from ctd.mechanism.targets import Targets
from ctd.mechanism.trajectories import Trajectories
from ctd.reasoning.annotate import TOPICS
from ctd.reasoning.traces import Trace
from ctd.retrieval.encoders import Encoder

CENTRED = "centred windows"
WIDTH = 0.2  # of a window, as a share of the CoT
WINDOW_GRID: Float[np.ndarray, " g"] = np.arange(11) / 10
TOPICS_LINE = re.compile(rf"^{re.escape(TOPICS)}[^\n]*\n?", re.MULTILINE)


def topicless(trace: Trace) -> Trace:
    """The trace without its line of topics; all marks are dropped, t* with them (see `boundaries`)."""
    return replace(trace, cot=TOPICS_LINE.sub("", trace.cot, count=1), shortlist=None, comparisons=(), mentions=())


def boundaries(traces: Sequence[Trace]) -> Float[np.ndarray, " n"]:
    """t* of each trace, as a share of what is left without its line of topics; NaN where none is marked inside that."""
    marked = []
    for trace in traces:
        line, length = TOPICS_LINE.search(trace.cot), len(trace.cot)
        cut = line.end() - line.start() if line else 0
        place = (trace.boundary * length - cut) / (length - cut) if trace.boundary and length > cut else np.nan
        marked.append(place if 0 < place < 1 else np.nan)
    return np.array(marked, np.float64)


def windows(cot: str, grid: Float[np.ndarray, " g"] = WINDOW_GRID, width: float = WIDTH) -> list[str]:
    """What is written in the window that ends at each t, in whole words; shorter at the start, "" at t = 0."""
    ends = prefixes(cot, grid)
    starts = [prefixes(cot, np.array([max(t - width, 0.0)]))[0] for t in grid]
    return [end[len(start) :].strip() for start, end in zip(starts, ends, strict=True)]


def embed_windows(
    cots: Sequence[str],
    marked: Float[np.ndarray, " n"],
    encoder: Encoder,
) -> PrefixVectors:
    """Embed the window that ends at each t of `WINDOW_GRID`; NaN where it is empty.

    cots: one per document.
    marked: t* of each.
    encoder: embeds the windows.
    Raises ValueError for lengths that differ.
    """
    check_lengths(cots=len(cots), boundaries=len(marked))
    texts = [text for cot in cots for text in windows(cot)]
    vectors = embed(encoder, texts, desc="embedding windows").reshape(len(cots), len(WINDOW_GRID), -1)
    return PrefixVectors(WINDOW_GRID, vectors, marked)


def centred(written: PrefixVectors, goals: Targets) -> Trajectories:
    """Cosines of centred vectors, less the mean over the other documents' targets.

    Texts are centred at the mean of all windows of all documents, targets at the mean of their kind.
    Raises ValueError for another number of documents.
    """
    texts = _centred(written.vectors)

    def cosine(target: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n g"]:
        units = _centred(target)
        n = np.isfinite(units).all(axis=1).sum()
        others = (np.nansum(units, axis=0) - units) / (n - 1) if n > 1 else np.full_like(units, np.nan)
        return np.einsum("ngd,nd->ng", texts, units - others, dtype=np.float64)

    return written.measured(goals, cosine)


def _centred(vectors: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
    """Vectors less their mean, of length 1."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    apart = vectors - (np.nanmean(flat, axis=0) if np.isfinite(flat).any() else 0.0)
    length = np.linalg.norm(apart, axis=-1, keepdims=True)
    return np.divide(apart, length, out=np.full_like(apart, np.nan), where=length > 0)


def limits(goals: Targets, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The published metrics of texts that are nothing but targets: the floor and the ceiling that an encoder sets.

    Such texts are the mean vectors of the document's topics, of its gold labels (a perfect answer) and of its near
    misses, and of the next document's gold labels (a text about something else).
    Returns columns text, metric, value, low, high (over documents) and n.
    """
    texts = {
        "its topics": goals.anchor,
        "its gold labels": goals.gold,
        "its near misses": goals.near_miss,
        "another document's gold labels": np.roll(goals.gold, 1, axis=0),
    }
    rows = []
    for text, vectors in texts.items():
        cosines = {
            "focus": (vectors * goals.anchor).sum(1, dtype=np.float64),
            "confusion": (vectors * goals.near_miss).sum(1, dtype=np.float64),
            "gold": (vectors * goals.gold).sum(1, dtype=np.float64),
        }
        cosines["margin"] = cosines["confusion"] - cosines["gold"]
        for metric, values in cosines.items():
            mean = curve_means.mean(values, draws, seed)
            rows.append((text, metric, *mean.scalar, int(curve_means.defined(values).sum())))
    return pd.DataFrame(rows, columns=["text", "metric", "value", "low", "high", "n"])


def least_confusion(goals: Targets, focus: float, draws: int = 1000, seed: int = 0) -> tuple[float, float, float, int]:
    """The lowest Confusion that any text with this Focus can have, mean over documents, its interval and their number.

    A vector whose cosine with the topics is f has one of at least f c - sqrt((1 - f^2)(1 - c^2)) with the near misses,
    where c is the cosine of topics and near misses.
    """
    c = np.clip((goals.anchor * goals.near_miss).sum(1, dtype=np.float64), -1, 1)
    least = focus * c - np.sqrt((1 - focus**2) * (1 - c**2))
    return *curve_means.mean(least, draws, seed).scalar, int(curve_means.defined(least).sum())
