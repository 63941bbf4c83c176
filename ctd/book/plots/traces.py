"""Pictures of chains of thought, and of how the teacher that writes them was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ctd.book.plots.files import keeps_data
from ctd.book.plots.series import styles

PANELS = {
    "focus": "Focus (topics)",
    "focus_document": "Focus (document)",
    "confusion": "Confusion (near misses)",
    "gold": "Gold labels",
    "margin": "Margin (near - gold)",
    "near_miss_share": "Near miss, answer forced",
}


@keeps_data
def trajectories(
    table: pd.DataFrame,
    published: pd.DataFrame | None = None,
    boundaries: Mapping[str, float] | None = None,
    metrics: Sequence[str] = ("focus", "confusion", "margin"),
    unit: str = "cosine",
) -> Figure:
    """Mean curves over the CoT with interval ribbons, one panel per metric, one line per series, the first one bold.

    table: columns series, metric, t, estimate, low, high (`Trajectories.table` with a series).
    published: columns metric, t, estimate, drawn dashed where the metric is.
    boundaries: vertical lines by name; NaN is not drawn.
    metrics: those that have a panel.
    unit: of the vertical axes.
    Raises ValueError for a metric that the table does not have.
    """
    if missing := [metric for metric in metrics if metric not in set(table["metric"])]:
        raise ValueError(f"the table has no metric {missing[0]!r}, only {', '.join(table['metric'].unique())}")
    drawn = styles(map(str, table["series"].unique()))
    figure, panels = plt.subplots(1, len(metrics), figsize=(max(5, 3.2 * len(metrics)), 3.6), squeeze=False)
    for axes, metric in zip(panels.flat, metrics, strict=True):
        for place, (name, part) in enumerate(table[table["metric"] == metric].groupby("series", sort=False)):
            style, width = drawn[str(name)], 1.4 if place else 2.4
            axes.plot(
                part["t"], part["estimate"], linewidth=width, label=str(name), markevery=4, markersize=5, **style.line
            )
            axes.fill_between(part["t"], part["low"], part["high"], color=style.colour, alpha=0.15, linewidth=0)
        if published is not None:
            known = published[published["metric"] == metric]
            axes.plot(known["t"], known["estimate"], "--", color="#55555f", label="published (MIMIC-IV)")
        marks = [(name, t) for name, t in (boundaries or {}).items() if not np.isnan(t)]
        for (name, t), line in zip(marks, cycle(("-", ":", "-.", "--")), strict=False):
            axes.axvline(t, color="#8a8a94", linestyle=line, linewidth=1.2, zorder=1, label=f"{name} t* = {t:.2f}")
        axes.set(xlim=(0, 1), title=PANELS.get(metric, metric), xlabel="position in the CoT, t")
    panels[0, 0].set_ylabel(unit)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@keeps_data
def losses(log: pd.DataFrame, window: int = 20) -> Figure:
    """A training's loss by step with its running mean, and on validation documents.

    log: columns loss and validation, and pass where there were several: each has a running mean of its own.
    window: steps in the running mean.
    """
    figure, axes = plt.subplots(figsize=(7, 3.5))
    log = log.reset_index(drop=True)
    passes = log["pass"] if "pass" in log else pd.Series(1, log.index)
    (line,) = axes.plot(log.index, log["loss"], alpha=0.3, linewidth=1)
    for number, part in log.groupby(passes):
        first = number == passes.iloc[0]
        smooth = part["loss"].rolling(window, min_periods=1, center=True).mean()
        axes.plot(part.index, smooth, color=line.get_color(), label="training, running mean" if first else None)
        checked = part.dropna(subset="validation")
        label = "validation" if first else None
        axes.plot(checked.index, checked["validation"], marker="o", color="C1", label=label)
        if not first:
            axes.axvline(part.index[0], linestyle=":", linewidth=1, color="0.5")
    axes.set(xlabel="step", ylabel="loss (nats per target token)", ylim=(0, None))
    axes.legend()
    return figure
