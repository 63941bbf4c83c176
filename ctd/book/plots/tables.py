"""Pictures of any long table with intervals: lines and dots."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ctd.book.plots.files import keeps_data
from ctd.book.plots.series import ordered, styles

MOST_TICKS = 8  # of values of x that each have a tick of their own


@keeps_data
def curves(table: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str, panel: str | None = None) -> Figure:
    """Lines with interval bands over a logarithmic x.

    table: long, with columns low and high besides those that are named.
    x: the column of the horizontal axis.
    y: the column of the vertical axis.
    hue: the column with the names of the lines.
    xlabel: of the horizontal axis.
    ylabel: of the vertical axis.
    panel: the column with the titles of panels, which share their height; from four on they stand in rows of two.
        None: a single panel.
    """
    parts = {"": table} if panel is None else dict(list(table.groupby(panel, sort=False)))
    columns = len(parts) if len(parts) < 4 else 2
    rows, width = -(-len(parts) // columns), 7 if columns == 1 else 4.5 * columns
    figure, panels = plt.subplots(rows, columns, figsize=(width, 4 * rows), sharey=True, squeeze=False)
    drawn = styles(map(str, table[hue].unique()))
    for axes, (title, shown) in zip(panels.flat, parts.items(), strict=False):
        for name in ordered(map(str, shown[hue].unique())):
            part, style = shown[shown[hue].astype(str) == name], drawn[name]
            axes.plot(part[x], part[y], markersize=5, label=name, **style.line)
            axes.fill_between(part[x], part["low"], part["high"], color=style.colour, alpha=0.15, linewidth=0)
            if len(part) == 1:  # a band of one point has no width
                axes.vlines(part[x], part["low"], part["high"], color=style.colour)
        axes.set(xscale="log", xlabel=xlabel, title=title)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if shown[x].nunique() <= MOST_TICKS:
            axes.set_xticks(sorted(shown[x].unique()))
            axes.xaxis.set_minor_locator(NullLocator())
    panels[0, 0].set_ylim(bottom=0)  # after all are drawn: it keeps the top that they share
    for axes in panels[:, 0]:
        axes.set_ylabel(ylabel)
    for spare in panels.flat[len(parts) :]:
        spare.remove()
    if table[hue].nunique() > 4:
        figure.set_figheight(5 * rows)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    else:
        panels[0, -1].legend()
    return figure


@keeps_data
def dots(table: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str) -> Figure:
    """Dots with intervals: one panel per value of x, one row per value of hue, on one scale.

    table: long, with columns low and high besides those that are named.
    xlabel: what the panels are.
    ylabel: what the dots are.
    """
    groups, names = list(dict.fromkeys(table[x])), ordered(map(str, table[hue].unique()))
    drawn, columns = styles(names), 2 if len(groups) == 4 else min(len(groups), 3)
    rows = -(-len(groups) // columns)
    size = (2.4 * columns + 1.6, rows * (0.27 * len(names) + 0.75) + 0.3)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    figure.set_layout_engine("constrained", w_pad=0.15)  # numbers at the edges of two panels stay apart
    for axes, group in zip(grid.flat, groups, strict=False):
        part = table[table[x] == group].assign(name=table[hue].astype(str)).set_index("name")
        for place, name in enumerate(names):
            if name in part.index:
                value, low, high = part.loc[name, [y, "low", "high"]]
                axes.hlines(place, low, high, color=drawn[name].colour, linewidth=2)
                axes.plot(value, place, markersize=7, linestyle="none", **drawn[name].line)
        axes.set(title=textwrap.fill(str(group).replace("_", " "), 30), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names)
        axes.axvline(0, color="#8a8a94", linewidth=0.8)
        axes.grid(axis="y", visible=False)
    for spare in grid.flat[len(groups) :]:
        spare.remove()
    words = f"{ylabel}, by {xlabel}" if xlabel else ylabel
    figure.supxlabel(textwrap.fill(words, 34 * columns), fontsize="medium")
    return figure


@keeps_data
def dumbbells(table: pd.DataFrame, y: str, x: str, hue: str, xlabel: str) -> Figure:
    """One line per value of y, one dot per value of hue on it, with its interval (columns low, high)."""
    rows = list(dict.fromkeys(table[y]))
    figure, axes = plt.subplots(figsize=(7, 0.7 * len(rows) + 1.2))
    for place, name in enumerate(rows):
        values = table[table[y] == name][x]
        axes.plot([values.min(), values.max()], [place, place], color="#c8c8d0", linewidth=3, zorder=1)
    for series, style in styles(map(str, dict.fromkeys(table[hue]))).items():
        part = table[table[hue].astype(str) == series].set_index(y).reindex(rows)
        spread = np.abs(part[["low", "high"]].to_numpy().T - part[x].to_numpy())
        options = {"linestyle": "none", "markersize": 8, "elinewidth": 1.5, "label": series, **style.line}
        axes.errorbar(part[x], range(len(rows)), xerr=spread, **options)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlim=(0, None), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@keeps_data
def ranked(table: pd.DataFrame, x: str, xlabel: str) -> Figure:
    """A dot with its interval for each row, the highest on top.

    table: columns score (the name of the row), x, low, high.
    x: the column of the values.
    xlabel: of the axis.
    """
    ordered = table.sort_values(x, ascending=False, kind="stable")
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(ordered) + 1.1))
    rows = np.arange(len(ordered))
    axes.hlines(rows, ordered["low"], ordered["high"], linewidth=2)
    axes.scatter(ordered[x], rows, s=40, zorder=3)
    axes.set_yticks(rows, ordered["score"])
    axes.set(ylim=(len(ordered) - 0.5, -0.5), xlabel=xlabel)
    axes.grid(axis="y", visible=False)
    return figure
