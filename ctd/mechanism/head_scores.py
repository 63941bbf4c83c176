"""Scores of every head on many documents, and what they say: means, rankings, depth, stability, course of the CoT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import kendalltau, spearmanr

from ctd import stats
from ctd.cache import atomic
from ctd.mechanism import scores
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.mechanism.untestable import NotTestable
from ctd.stats import Interval

DRAWS = 200  # resampled rankings by which the stability of one is judged


@dataclass(frozen=True, eq=False)
class HeadScores:
    """Scores of every head, an entry per document.

    uids: of the documents, in order.
    values: of each score, NaN where a document has no query that it is read at. Entry 0 of the second axis is the
        whole phase (all queries before the boundary for a Phase-1 score, all comparisons for a Phase-2 score), the
        others are the stages of the CoT, first to last.
    others: the whole phase under another document's anchors and labels; none of a score that was not measured so.
    """

    uids: tuple[str, ...]
    values: dict[str, Float[np.ndarray, "n stages layers heads"]]
    others: dict[str, Float[np.ndarray, "n layers heads"]] = field(default_factory=dict)

    def names(self, phase: Phase) -> list[str]:
        """The scores of a phase that some document has, the paper's first."""
        return [name for name in scores.names(phase) if name in self.values and self.n_documents(name)]

    def raw(self, name: str) -> Float[np.ndarray, "n stages layers heads"]:
        """The values of one score. Raises ValueError for an unknown score."""
        if name not in self.values:
            raise ValueError(f"score must be one of {', '.join(self.values)}, got {name!r}")
        return self.values[name]

    def mean(self, name: str, stage: int = 0, draws: int = 1000, seed: int = 0) -> Interval:
        """Mean over the documents that have the score, with its interval, [layers, heads].

        name: of the score.
        stage: 0 for the whole phase, else the number of a stage.
        """
        return _mean(self.raw(name)[:, stage], draws, seed)

    def n_documents(self, name: str) -> int:
        """How many documents have a score, in the phase as a whole."""
        return len(self._defined(name))

    def ranking(self, name: str) -> list[Head]:
        """All heads, the highest mean score of the phase first. Raises NotTestable where no document has it."""
        values = self.raw(name)[:, 0]
        defined = ~np.isnan(values)
        if not defined.any():
            refines = name in scores.SCORES and scores.SCORES[name].phase == Phase.REFINE
            raise NotTestable(
                f"none of the {len(self.uids)} documents tells {name}"
                + (": none weighs a label that is kept against one that is not" if refines else "")
            )
        with np.errstate(invalid="ignore"):
            means = np.where(defined, values, 0.0).sum(0) / defined.sum(0)
        order = np.argsort(-np.nan_to_num(means, nan=-np.inf).ravel(), kind="stable")
        return [Head(*divmod(int(place), means.shape[1])) for place in order]

    def top(self, name: str, k: int, seed: int = 0) -> pd.DataFrame:
        """The k highest heads in order: columns layer, head, value, low, high, n (documents that have the score)."""
        mean, n = self.mean(name, seed=seed), (~np.isnan(self.raw(name)[:, 0])).sum(0)
        rows = [(*head, *mean[head].scalar, int(n[head])) for head in self.ranking(name)[:k]]
        return pd.DataFrame(rows, columns=["layer", "head", "value", "low", "high", "n"])

    def depth(self, name: str, k: int, draws: int = 1000, seed: int = 0) -> Interval:
        """Mean depth of the k highest heads, 0 the first layer and 1 the last.

        The interval is over resampled documents; the heads are ranked anew in each resample. It is a percentile
        interval: a depth jumps from layer to layer, so that its acceleration says little.
        """
        n_layers, n_heads = self.raw(name).shape[2:]
        depths = [
            (np.argsort(-means, kind="stable")[:k] // n_heads).mean() / max(n_layers - 1, 1)
            for means in self._resampled(name, draws, seed)
        ]
        return stats.percentile_interval(depths[0], depths[1:])

    def stability(self, name: str, draws: int = DRAWS, seed: int = 0) -> Interval:
        """Kendall's tau between the ranking of all documents and that of a bootstrap resample: median and 95 %."""
        whole, *resampled = self._resampled(name, draws, seed)
        taus = [kendalltau(whole, means).statistic for means in resampled]
        return stats.percentile_interval(float(np.median(taus)), taus)

    def specificity(self, name: str, draws: int = DRAWS, seed: int = 0) -> Interval:
        """Spearman's correlation of a score's ranking with that under other documents' anchors and labels.

        1 says that the score is nothing about its own document (our definition). The interval is over resampled
        documents. NaN where it was not measured, as for scores by effect, or there are no others.
        """
        of_another = self.others.get(name, np.full_like(self.raw(name)[:, 0], np.nan)).reshape(len(self.uids), -1)
        of_document = self.raw(name)[:, 0].reshape(len(self.uids), -1)
        known = ~(np.isnan(of_document).any(1) | np.isnan(of_another).any(1))
        if not known.any():
            return stats.percentile_interval(np.nan, [])
        weights = np.vstack(
            [np.ones((1, known.sum())), *stats.resample_weights(known.sum(), draws, np.random.default_rng(seed))]
        )
        drawn = [spearmanr(weight @ of_document[known], weight @ of_another[known]).statistic for weight in weights]
        return stats.percentile_interval(drawn[0], drawn[1:])

    def course(self, name: str, groups: Mapping[str, Sequence[Head]], seed: int = 0) -> pd.DataFrame:
        """Mean score of groups of heads in each stage of the CoT: columns heads, stage, value, low, high, n.

        name: of the score.
        groups: heads by the name of their group.
        n counts the documents that have the score in the stage; a stage that none has is left out.
        """
        values, rows = self.raw(name), []
        for group, heads in groups.items():
            layers, numbers = np.array(heads).T
            by_stage = values[:, 1:, layers, numbers].mean(-1)
            mean, n = _mean(by_stage, seed=seed), (~np.isnan(by_stage)).sum(0)
            rows += [(group, stage + 1, *mean[stage].scalar, int(n[stage])) for stage in range(by_stage.shape[1])]
        return pd.DataFrame(rows, columns=["heads", "stage", "value", "low", "high", "n"]).dropna()

    def table(self) -> pd.DataFrame:
        """Every value: a row per document, stage (0 the phase), layer and head, a column per score."""
        shape = next(iter(self.values.values())).shape
        index = pd.MultiIndex.from_product(
            [self.uids, *(range(n) for n in shape[1:])], names=["document", "stage", "layer", "head"]
        )
        return pd.DataFrame({name: values.ravel() for name, values in self.values.items()}, index).reset_index()

    def save(self, path: Path) -> None:
        """Write the table as Parquet."""
        with atomic(path) as scratch:
            self.table().to_parquet(scratch, index=False)

    def _defined(self, name: str) -> Float[np.ndarray, "documents heads"]:
        """The phase's values of every head in the documents that have them all."""
        values = self.raw(name)[:, 0].reshape(len(self.uids), -1)
        return values[~np.isnan(values).any(1)]

    def _resampled(self, name: str, draws: int, seed: int) -> Iterator[Float[np.ndarray, " heads"]]:
        """The phase's mean of every head over all documents that have one, then the sums over each resample of them."""
        values = self._defined(name)
        yield values.mean(0)
        for chunk in stats.resample_weights(len(values), draws, np.random.default_rng(seed)):
            yield from chunk @ values


def random_depth(n_layers: int, n_heads: int, k: int, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean depth of k heads drawn at random, 0 the first layer and 1 the last: 0.5, and what 95 % of draws lie in.

    n_layers: of the model.
    n_heads: of a layer.
    """
    rng, depth = np.random.default_rng(seed), np.repeat(np.arange(n_layers), n_heads) / max(n_layers - 1, 1)
    drawn = [rng.choice(depth, min(k, len(depth)), replace=False).mean() for _ in range(draws)]
    return stats.percentile_interval(depth.mean(), drawn)


def _mean(values: Float[np.ndarray, "n ..."], draws: int = 1000, seed: int = 0) -> Interval:
    """Mean over documents with its interval, NaN left out."""
    defined = ~np.isnan(values)
    return stats.bootstrap_ratio(np.where(defined, values, 0.0), defined.astype(float), draws=draws, seed=seed)
