"""Paired comparisons: a permutation test, Holm's correction, effect sizes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats as scipy_stats

from ctd.stats.resampling import bootstrap_ratio

FLIPS = 2**22  # signs (draws x documents) held at once: bounds the working memory, not the result


def sign_flip_test(differences: Float[np.ndarray, " n"], draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of a mean of paired differences, by flipping their signs (`scipy.stats.permutation_test`).

    differences: of each document.
    draws: the number of random flips; exact where all 2^n flips are no more than that.
    seed: of the flips.
    Raises ValueError for fewer than 2 differences, or a NaN.
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) < 2 or np.isnan(values).any():
        raise ValueError(f"a sign-flip test needs at least 2 numbers and no NaN, got {values!r}")
    result = scipy_stats.permutation_test(
        (values,),
        lambda flipped, axis: flipped.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        batch=max(1, FLIPS // len(values)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """p-values corrected for the number of tests (Holm, 1979).

    Rejecting below 0.05 keeps the chance of any false rejection below 0.05.

    p_values: of all tests that are made together.
    Raises ValueError for a value outside 0 .. 1.
    """
    values = np.asarray(p_values, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must be between 0 and 1, got {values}")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def cohen_d(differences: Float[np.ndarray, " n"]) -> float:
    """Mean of paired differences over their standard deviation (Cohen's d_z); NaN where they are all alike."""
    values = np.asarray(differences, np.float64)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean() / spread) if spread > 0 else float("nan")


def dominance(differences: Float[np.ndarray, " n"]) -> float:
    """Share of documents with a difference above 0, minus the share with one below 0 (Cliff, 1993, paired)."""
    return float(np.sign(differences).mean())


def compared(
    differences: Mapping[str, Float[np.ndarray, " n"]],
    seed: int = 0,
    denominators: Float[np.ndarray, " n"] | None = None,
) -> pd.DataFrame:
    """Paired comparisons, a row each: name, value, low, high, p, p_holm, cohen_d, dominance.

    p is that of `sign_flip_test`, p_holm is corrected over the rows.

    differences: for each comparison, the difference of each document.
    seed: of the draws and flips.
    denominators: of each document, where the value is a ratio of sums (PSP@k); None for means.
    """
    below = np.ones(len(next(iter(differences.values())))) if denominators is None else denominators
    rows = [
        (
            name,
            *bootstrap_ratio(values, below, seed=seed).scalar,
            sign_flip_test(values, seed=seed),
            cohen_d(values),
            dominance(values),
        )
        for name, values in differences.items()
    ]
    table = pd.DataFrame(rows, columns=["name", "value", "low", "high", "p", "cohen_d", "dominance"])
    table.insert(5, "p_holm", holm(table["p"].to_numpy()))
    return table
