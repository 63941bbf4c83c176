"""The mean of a table whose rows and columns are both drawn: students of several seeds, each on the same documents."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats as scipy_stats

from ctd.stats.interval import Interval


def crossed_interval(values: Float[np.ndarray, "seeds documents"], level: float = 0.95) -> Interval:
    """The mean over seeds and documents, for other seeds and other documents.

    The variances of seeds, of documents and of what is left come from an analysis of variance, and the interval is
    Student's with Satterthwaite's degrees of freedom (Satterthwaite, 1946). With three to five seeds a two-way
    bootstrap (Owen, 2007) is too narrow, because it cannot know how little it knows about the seeds.

    values: of each student (a row) and document (a column).
    level: the coverage aimed at.
    Raises ValueError for fewer than 2 seeds or 2 documents, or a NaN.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or np.isnan(values).any():
        raise ValueError(f"needs at least 2 seeds and 2 documents and no NaN, got shape {values.shape}")
    seeds, documents = values.shape
    mean, by_seed, by_document = values.mean(), values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_document + mean
    rest_freedom = (seeds - 1) * (documents - 1)
    squares = np.array(
        [documents * by_seed.var(ddof=1), seeds * by_document.var(ddof=1), (rest**2).sum() / rest_freedom]
    )
    adds = (squares[:2] > squares[2]).astype(float)  # what lies below the rest has no variance of its own
    squares *= [*adds, 1 - adds.sum()]
    half = 0.0
    if squares.sum() > 0:
        freedom = squares.sum() ** 2 / (squares**2 / [seeds - 1, documents - 1, rest_freedom]).sum()
        half = scipy_stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(squares.sum() / (seeds * documents))
    return Interval(np.array(mean), np.array(mean - half), np.array(mean + half), method="Satterthwaite")
