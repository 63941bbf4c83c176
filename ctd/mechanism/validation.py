"""Do the scores find the heads that matter? Simpler rivals of theirs, and how well each ranks heads that are known.

Notes: the rivals ask the model itself: what changes in a readout (`ctd.mechanism.patching`) when a head's output grows
(gradient times activation), or when its attention pattern is spoilt (patching it alone). A score finds the known heads
if it ranks them above all others: the area under the ROC curve, and precision among the highest. n documents, h heads
of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from tqdm.auto import tqdm

from ctd import hardware, stats, workers
from ctd.mechanism import attention, patching, readouts
from ctd.mechanism import attribution as attribution_of_heads
from ctd.mechanism.attention import Head
from ctd.mechanism.attention_patches import Noise
from ctd.mechanism.corruptions import Pair
from ctd.mechanism.patching import Intervention
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.stats import Interval

DRAWN = 200  # resamples of documents for the course over their number

Values = Float[np.ndarray, "n layers h"]


def attribution(
    model: Any, traces: Sequence[AnnotatedTrace], desc: str = "gradient x activation"
) -> dict[str, Float[np.ndarray, "n layers h"]]:
    """Gradient times activation: the derivative of each readout with respect to a factor (at 1) on a head's output.

    To first order it is what the readout would lose with the head silent. NaN where a trace has no such readout.

    traces: documents with their traces.
    desc: label of the progress bar.
    Raises ValueError for a model without `o_proj`.
    """
    with attribution_of_heads.frozen(model):
        n_tokens = 3 * sum(len(trace.ids) for trace in traces)  # there and back
        seconds = hardware.seconds_to_read(model, n_tokens) / max(len(traces), 1)
        on_gpu = int(hardware.on_accelerator(model))
        with tqdm(total=len(traces), desc=desc, unit=" documents") as bar:
            by_trace = list(workers.run(_gradients, traces, model, workers=on_gpu, seconds=seconds, bar=bar))
    return {name: np.stack([gradients[name] for gradients in by_trace]) for name in (readouts.ANCHOR, readouts.MARGIN)}


def _gradients(model: Any, trace: AnnotatedTrace) -> dict[str, Float[np.ndarray, "layers h"]]:
    """The derivative of each readout of a trace with respect to a factor on each head's output."""
    return {name: values.sum(axis=1) for name, values in attribution_of_heads.by_query(model, trace).items()}


def alone(
    model: Any, documents: Sequence[Pair], noise: Noise = "uniform", rows: int = 0
) -> dict[str, Float[np.ndarray, "n layers h"]]:
    """What each readout loses when the attention pattern of one head is noised: every head, each by itself.

    noise: what replaces it (see `attention_patches.patch`).
    documents, rows, errors: as in `patching.effects`.
    """
    heads = attention.all_heads(model)
    selected = {("alone", place): [head] for place, head in enumerate(heads)}
    noised = patching.effects(model, documents, selected, Intervention(noise=noise), rows=rows, desc="each head alone")
    n_layers, n_heads = architecture.shape(model)[:2]
    return {
        name: (values[:, :1] - values[:, 2:]).reshape(-1, n_layers, n_heads) for name, values in noised.values.items()
    }


def auroc(scores: Float[np.ndarray, "... layers h"], known: Bool[np.ndarray, "layers h"]) -> Float[np.ndarray, " ..."]:
    """Area under the ROC curve of each map of scores: the chance that a known head scores above another, ties half."""
    flat = scores.reshape(*scores.shape[:-2], -1)
    ranks = rankdata(flat, axis=-1)[..., known.ravel()]
    n, others = int(known.sum()), int((~known).sum())
    return (ranks.sum(-1) - n * (n + 1) / 2) / (n * others)


def random_auroc(n_heads: int, n_known: int, draws: int = 2000, seed: int = 0) -> Interval:
    """The AUROC of as many heads drawn at random: 0.5, and what 95 % of draws lie in (our definition).

    An interval over documents says nothing of this: the same few heads rank high or low in all documents, whatever a
    score measures. Of two heads among 36, one draw in forty has an AUROC above 0.9.
    n_heads: of the model.
    n_known: how many of them are to be found.
    Raises ValueError where no head, or every head, is known.
    """
    if not 0 < n_known < n_heads:
        raise ValueError(f"some heads must be known and some not, got {n_known} of {n_heads}")
    rng, ranks = np.random.default_rng(seed), np.arange(1, n_heads + 1)
    sums = np.array([rng.choice(ranks, n_known, replace=False).sum() for _ in range(draws)])
    areas = (sums - n_known * (n_known + 1) / 2) / (n_known * (n_heads - n_known))
    return stats.percentile_interval(0.5, areas)


def precision(
    scores: Float[np.ndarray, "... layers h"], known: Bool[np.ndarray, "layers h"], k: int = 0
) -> Float[np.ndarray, " ..."]:
    """Share of known heads among the k highest (0: as many as are known, where it is the recall too)."""
    flat = scores.reshape(*scores.shape[:-2], -1)
    highest = np.argsort(-flat, axis=-1, kind="stable")[..., : k or int(known.sum())]
    return known.ravel()[highest].mean(-1)


def ratings(values: Mapping[str, Values], known: Sequence[Head], draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How well the mean of each score ranks the known heads: columns score, auroc, low, high, precision, worst, n.

    values: of each score, NaN in the documents that do not have it.
    known: the heads to be found.
    Returns columns score, auroc, low, high (95 %, BCa over documents), precision (see `precision`), worst
    (place of the lowest known head in the ranking, from 1) and n (documents that have the score).
    Raises ValueError without known heads, for heads that are all known, or a score that no document has.
    """
    rows = []
    for name, by_document in values.items():
        usable, mask = _usable(name, by_document), _mask(by_document, known)
        mean, flat = usable.mean(0), usable.reshape(len(usable), -1)

        def area(weights: Float[np.ndarray, "b n"], flat: np.ndarray = flat, mask: np.ndarray = mask) -> np.ndarray:
            return auroc((weights @ flat).reshape(-1, *mask.shape), mask)[:, None]

        interval = stats.bootstrap_weighted(area, len(usable), draws, seed=seed)
        places = rankdata(-mean, method="max").reshape(mask.shape)[mask]
        rows.append((name, *interval[0].scalar, float(precision(mean, mask)), int(places.max()), len(usable)))
    return pd.DataFrame(rows, columns=["score", "auroc", "low", "high", "precision", "worst", "n"])


def by_documents(
    values: Mapping[str, Values], known: Sequence[Head], sizes: Sequence[int], seed: int = 0
) -> pd.DataFrame:
    """The AUROC by number of documents: columns score, documents, auroc (mean), low, high (95 % of draws).

    values, known, errors: as in `ratings`.
    sizes: numbers of documents; each draw takes that many without replacement. Larger ones than a score has documents
        are left out.
    """
    rng, rows = np.random.default_rng(seed), []
    for name, by_document in values.items():
        usable, mask = _usable(name, by_document), _mask(by_document, known)
        for size in sizes:
            if size <= len(usable):
                means = np.stack([usable[rng.permutation(len(usable))[:size]].mean(0) for _ in range(DRAWN)])
                areas = auroc(means, mask)
                rows.append((name, size, areas.mean(), *np.quantile(areas, [0.025, 0.975])))
    return pd.DataFrame(rows, columns=["score", "documents", "auroc", "low", "high"])


def _usable(name: str, values: Values) -> Values:
    """The documents that have a score."""
    usable = values[~np.isnan(values).any((1, 2))]
    if not len(usable):
        raise ValueError(f"no document tells the score {name!r}: there is nothing to rank heads by")
    return usable


def _mask(values: Values, known: Sequence[Head]) -> Bool[np.ndarray, "layers h"]:
    mask = np.zeros(values.shape[1:], bool)
    for layer, head in known:
        mask[layer, head] = True
    if not mask.any() or mask.all():
        raise ValueError(f"some heads must be known and some not, got {int(mask.sum())} of {mask.size}")
    return mask
