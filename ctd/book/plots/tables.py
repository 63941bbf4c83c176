"""Pictures of any long table with intervals: lines, bars and dots."""

from __future__ import annotations

import textwrap
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

MOST_TICKS = 8  # of values of x that each have a tick of their own


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
    colors = dict(zip(table[hue].unique(), cycle(sns.color_palette()), strict=False))
    for axes, (title, shown) in zip(panels.flat, parts.items(), strict=False):
        for name, part in shown.groupby(hue, sort=False):
            axes.plot(part[x], part[y], marker="o", markersize=4, label=str(name), color=colors[name])
            axes.fill_between(part[x], part["low"], part["high"], color=colors[name], alpha=0.2, linewidth=0)
            if len(part) == 1:  # a band of one point has no width
                axes.vlines(part[x], part["low"], part["high"], color=colors[name])
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


def grouped_bars(table: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str) -> Figure:
    """Bars with intervals: one cluster a value of x, one bar a value of hue."""
    groups, series = list(dict.fromkeys(table[x])), list(dict.fromkeys(table[hue]))
    figure, axes = plt.subplots(figsize=(7, 4))
    width = 0.8 / len(series)
    for place, name in enumerate(series):
        part = table[table[hue] == name].set_index(x).reindex(groups)
        spread = np.abs(part[["low", "high"]].to_numpy().T - part[y].to_numpy())
        axes.bar(
            np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width,
            part[y],
            width,
            yerr=spread,
            label=name,
            error_kw={"elinewidth": 1, "ecolor": "#333333"},
        )
    axes.set(ylim=(min(0.0, 1.1 * table["low"].min()), None), xlabel=xlabel, ylabel=ylabel)
    axes.axhline(0, color="#333333", linewidth=0.8)
    axes.set_xticks(np.arange(len(groups)), [textwrap.fill(str(group).replace("_", " "), 14) for group in groups])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(series), 4), frameon=False)
    return figure


def dumbbells(table: pd.DataFrame, y: str, x: str, hue: str, xlabel: str) -> Figure:
    """One line a value of y, one dot a value of hue on it, with its interval (columns low, high)."""
    rows = list(dict.fromkeys(table[y]))
    figure, axes = plt.subplots(figsize=(7, 0.7 * len(rows) + 1.2))
    for place, name in enumerate(rows):
        values = table[table[y] == name][x]
        axes.plot([values.min(), values.max()], [place, place], color="#c8c8d0", linewidth=3, zorder=1)
    for series, marker in zip(dict.fromkeys(table[hue]), ("o", "D", "*", "s", "^"), strict=False):
        part = table[table[hue] == series].set_index(y).reindex(rows)
        spread = np.abs(part[["low", "high"]].to_numpy().T - part[x].to_numpy())
        axes.errorbar(part[x], range(len(rows)), xerr=spread, fmt=marker, markersize=8, elinewidth=1.5, label=series)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlim=(0, None), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    return figure


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
