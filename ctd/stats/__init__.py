"""How sure we are: bootstrap intervals over documents, paired tests, Holm's correction, effect sizes."""

from ctd.stats.comparisons import cohen_d, compared, dominance, holm, sign_flip_test
from ctd.stats.crossed import crossed_interval
from ctd.stats.interval import Interval, percentile_interval, t_interval
from ctd.stats.resampling import (
    bootstrap,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_weighted,
    ratio,
    resample_weights,
)

__all__ = [
    "Interval",
    "bootstrap",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_ratio",
    "bootstrap_weighted",
    "cohen_d",
    "compared",
    "crossed_interval",
    "dominance",
    "holm",
    "percentile_interval",
    "ratio",
    "resample_weights",
    "sign_flip_test",
    "t_interval",
]
