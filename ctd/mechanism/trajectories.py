"""How a chain of thought (CoT) moves: towards its document's topics (Focus), away from its near misses (Confusion).

Notes: curves over t, the normalised position in the CoT, of cosines between e(r_<=t), the CoT written so far, and
targets of the document (arXiv:2606.06840; the forms of targets, boundary and contrasts are ours). Rows are documents
and stay aligned: what a document lacks (a CoT, near misses, a first word at t = 0) is NaN. n documents, g grid points.

    written = cot_prefixes.embed_prefixes(traces, encoder)
    goals = targets.task_targets(task, index, topic_depth, n_topics, n_near_misses)
    measured = written.towards(goals)
    elsewhere = written.swapped(of_other_documents(traces, rng)).towards(goals)  # a control that embeds nothing
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd.cache import DATA
from ctd.mechanism import curve_means

METRICS = ("focus", "focus_document", "confusion", "gold", "margin")


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Cosines of the CoT written up to t with each target of its document, NaN where undefined.

    grid: the points t.
    boundary: marked t* of each CoT, NaN without one.
    focus: to the anchors.
    focus_document: to the document (the target of the paper's patching figures).
    confusion: to the near misses; lower is better.
    gold: to the gold labels.
    """

    grid: Float[np.ndarray, " g"]
    boundary: Float[np.ndarray, " n"]
    focus: Float[np.ndarray, "n g"]
    focus_document: Float[np.ndarray, "n g"]
    confusion: Float[np.ndarray, "n g"]
    gold: Float[np.ndarray, "n g"]

    @property
    def margin(self) -> Float[np.ndarray, "n g"]:
        """Confusion less the cosine to gold: what is left of it when the topic, which both share, is taken away."""
        return self.confusion - self.gold

    @property
    def left_out(self) -> dict[str, int]:
        """For each metric, how many documents have no value at all: no CoT, or no such target."""
        return {metric: int(np.isnan(getattr(self, metric)).all(axis=1).sum()) for metric in METRICS}

    def table(self, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
        """Mean curves, long: metric, t, estimate, low, high (bootstrap over documents), n documents at that t."""
        curves = np.stack([getattr(self, metric) for metric in METRICS], axis=1)
        mean = curve_means.mean(curves, draws, seed)
        n = curve_means.defined(curves).sum(axis=0)
        keys = pd.MultiIndex.from_product([METRICS, self.grid], names=["metric", "t"]).to_frame(index=False)
        columns = {"estimate": mean.estimate, "low": mean.low, "high": mean.high, "n": n}
        return keys.assign(**{name: np.ravel(values) for name, values in columns.items()})


def published(model: str = "teacher", data: str = "mimic_iv") -> pd.DataFrame:
    """A curve of arXiv:2606.06840, from the authors' figure notes: columns metric, t, estimate; it has no interval.

    model: of the paper.
    data: a dataset of the paper.
    Raises ValueError for a model or a dataset that `data/published.json` does not have.
    """
    notes = json.loads((DATA / "published.json").read_text("utf-8"))
    curves = notes.get(data)
    if not isinstance(curves, dict) or "focus" not in curves:
        raise ValueError(f"data must be one of mimic_iv (data/published.json), got {data!r}")
    if model not in curves["focus"]:
        raise ValueError(f"model must be one of {', '.join(curves['focus'])}, got {model!r}")
    parts = [
        pd.DataFrame({"metric": metric, "t": notes["t"], "estimate": by_model[model]})
        for metric, by_model in curves.items()
    ]
    return pd.concat(parts, ignore_index=True)
