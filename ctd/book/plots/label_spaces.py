"""Pictures of label spaces and of what a shortlist finds in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ctd.book.plots.files import keeps_data
from ctd.data.label_space import LabelSpace

LINES = ("-", "--", ":", "-.")  # tells series apart without their colours
OUTCOMES = {"found": "#2a7f62", "near miss only": "#e0a030", "missed": "#b8b8c0"}


@keeps_data
def outcome_bars(table: pd.DataFrame, title: str) -> Figure:
    """Found, near miss only, missed: one stacked bar per retriever."""
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(table) + 1.3))
    left = np.zeros(len(table))
    for outcome, colour in OUTCOMES.items():
        share = table[outcome].to_numpy()
        axes.barh(table["retriever"], share, left=left, color=colour, label=outcome)
        for row, value in enumerate(share):
            if value > 0.06:
                axes.text(left[row] + value / 2, row, f"{value:.0%}", ha="center", va="center")
        left += share
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), title=title)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@keeps_data
def sizes(counts: Mapping[str, int]) -> Figure:
    """Label spaces side by side, on a logarithmic axis."""
    figure, axes = plt.subplots(figsize=(7, 0.4 * len(counts) + 1.2))
    bars = axes.barh(list(counts), list(counts.values()), color=sns.color_palette("colorblind")[0])
    axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=4)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(1, 10 * max(counts.values())), xlabel="labels to choose from")
    axes.grid(axis="y", visible=False)
    return figure


@keeps_data
def tails(uses: Mapping[str, Int[np.ndarray, " labels"]]) -> Figure:
    """Rank against frequency: how often each label is used in training, most frequent first."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for (name, counts), line in zip(uses.items(), cycle(LINES), strict=False):
        positive = np.sort(counts[counts > 0])[::-1]
        axes.plot(np.arange(1, len(positive) + 1), positive, line, label=f"{name} ({len(positive):,} labels used)")
    axes.set(xscale="log", yscale="log", xlabel="rank of the label", ylabel="training documents with the label")
    axes.legend()
    return figure


@keeps_data
def labels_per_document(counts: Mapping[str, Int[np.ndarray, " documents"]], most: int = 40) -> Figure:
    """Shares of documents by their number of gold labels; the last bin takes all above."""
    figure, axes = plt.subplots(figsize=(7, 3.5))
    for (name, count), line in zip(counts.items(), cycle(LINES), strict=False):
        share = np.bincount(np.minimum(count, most), minlength=most + 1) / len(count)
        axes.step(range(most + 1), share, line, where="mid", label=f"{name} (median {np.median(count):.0f})")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylim=(0, None), xlabel=f"gold labels of a document ({most} and more together)", ylabel="documents")
    axes.legend()
    return figure


@keeps_data
def levels(spaces: Iterable[LabelSpace]) -> Figure:
    """Nodes of each tree by depth: labels that may be chosen, and inner nodes that may not."""
    shown = [space for space in spaces if space.parents is not None]
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.5 * columns, 2.6 * rows), squeeze=False)
    for axes, space in zip(grid.flat, shown, strict=False):
        _levels_of(axes, space)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    figure.supylabel("depth in the tree", fontsize="medium")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _levels_of(axes: Axes, space: LabelSpace) -> None:
    deepest = int(space.depth.max())
    chosen = np.bincount(space.depth[: len(space)], minlength=deepest + 1)
    inner = np.bincount(space.depth[len(space) :], minlength=deepest + 1)
    rows = np.arange(deepest + 1)
    axes.barh(rows - 0.2, chosen, 0.4, color=sns.color_palette("colorblind")[0], label="labels")
    axes.barh(rows + 0.2, inner, 0.4, color="#b8b8c0", label="inner nodes")
    axes.invert_yaxis()
    axes.set(title=space.name, xscale="symlog", xlabel="nodes", yticks=rows)
    axes.grid(axis="y", visible=False)
