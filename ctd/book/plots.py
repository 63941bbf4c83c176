"""Pictures: each function draws one figure from a table; a white face keeps it legible in the dark theme."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from ctd.data.label_space import LabelSpace

STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "font.size": 10,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "ctd",
}
OUTCOMES = {"found": "#2a7f62", "near miss only": "#e0a030", "missed": "#b8b8c0"}
MOST_TICKS = 8  # of values of x that each have a tick of their own
PANELS = {
    "focus": "Focus (topics)",
    "focus_document": "Focus (document)",
    "confusion": "Confusion (near misses)",
    "gold": "Gold labels",
    "margin": "Margin (near - gold)",
}


def use_style() -> None:
    """The book's look: call once at the top of a notebook."""
    sns.set_theme(style="whitegrid", palette="colorblind", rc=STYLE)


def curves(table: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str, panel: str | None = None) -> Figure:
    """Lines with interval bands over a logarithmic x: the columns x, y, hue, low, high of a long table.

    panel: a column with the titles of panels, on one height, side by side or, from four on, in rows of two; None for a
    single one.
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


def trajectories(
    table: pd.DataFrame,
    published: pd.DataFrame | None = None,
    boundaries: Mapping[str, float] | None = None,
    metrics: Sequence[str] = ("focus", "confusion", "margin"),
) -> Figure:
    """Mean curves over the CoT with interval ribbons, one panel a metric, a line a series, the first one bold.

    table: columns series, metric, t, estimate, low, high (`Trajectories.table` with a series). published: columns
    metric, t, estimate, drawn dashed where the metric is. boundaries: vertical lines by name; NaN is not drawn.
    Raises ValueError for a metric that the table does not have.
    """
    if missing := [metric for metric in metrics if metric not in set(table["metric"])]:
        raise ValueError(f"the table has no metric {missing[0]!r}, only {', '.join(table['metric'].unique())}")
    figure, panels = plt.subplots(1, len(metrics), figsize=(3.2 * len(metrics), 3.6), squeeze=False)
    for axes, metric in zip(panels.flat, metrics, strict=True):
        for place, (name, part) in enumerate(table[table["metric"] == metric].groupby("series", sort=False)):
            (line,) = axes.plot(part["t"], part["estimate"], linewidth=1.4 if place else 2.4, label=str(name))
            axes.fill_between(part["t"], part["low"], part["high"], color=line.get_color(), alpha=0.2, linewidth=0)
        if published is not None:
            known = published[published["metric"] == metric]
            axes.plot(known["t"], known["estimate"], "--", color="#55555f", label="published (MIMIC-IV)")
        marks = [(name, t) for name, t in (boundaries or {}).items() if not np.isnan(t)]
        for (name, t), style in zip(marks, cycle(("-", ":", "-.", "--")), strict=False):
            axes.axvline(t, color="#8a8a94", linestyle=style, linewidth=1.2, zorder=1, label=f"{name} t* = {t:.2f}")
        axes.set(xlim=(0, 1), title=PANELS.get(metric, metric), xlabel="position in the CoT, t")
    panels[0, 0].set_ylabel("cosine")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
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
    axes.set_xticks(np.arange(len(groups)), [textwrap.fill(str(group), 14) for group in groups])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(series), 4), frameon=False)
    return figure


def outcome_bars(table: pd.DataFrame, title: str) -> Figure:
    """Found, near miss only, missed: one stacked bar a retriever."""
    figure, axes = plt.subplots(figsize=(7, 0.5 * len(table) + 1.3))
    left = np.zeros(len(table))
    for outcome, colour in OUTCOMES.items():
        share = table[outcome].to_numpy()
        bars = axes.barh(table["retriever"], share, left=left, color=colour, label=outcome)
        axes.bar_label(bars, [f"{value:.0%}" if value > 0.04 else "" for value in share], label_type="center")
        left += share
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), title=title)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return figure


def sizes(counts: Mapping[str, int]) -> Figure:
    """Label spaces side by side, on a logarithmic axis."""
    figure, axes = plt.subplots(figsize=(7, 0.4 * len(counts) + 1.2))
    bars = axes.barh(list(counts), list(counts.values()), color=sns.color_palette("colorblind")[0])
    axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=4)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(1, 10 * max(counts.values())), xlabel="labels to choose from")
    axes.grid(axis="y", visible=False)
    return figure


def tails(uses: Mapping[str, Int[np.ndarray, " labels"]]) -> Figure:
    """Rank against frequency: how often each label is used in training, most frequent first."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, counts in uses.items():
        used = np.sort(counts[counts > 0])[::-1]
        axes.plot(np.arange(1, len(used) + 1), used, label=f"{name} ({len(used):,} labels used)")
    axes.set(xscale="log", yscale="log", xlabel="rank of the label", ylabel="training documents with the label")
    axes.legend()
    return figure


def labels_per_document(counts: Mapping[str, Int[np.ndarray, " documents"]], most: int = 40) -> Figure:
    """Shares of documents by their number of gold labels; the last bin takes all above."""
    figure, axes = plt.subplots(figsize=(7, 3.5))
    for name, count in counts.items():
        share = np.bincount(np.minimum(count, most), minlength=most + 1) / len(count)
        axes.step(range(most + 1), share, where="mid", label=f"{name} (median {np.median(count):.0f})")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylim=(0, None), xlabel=f"gold labels of a document ({most} and more together)", ylabel="documents")
    axes.legend()
    return figure


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


def losses(log: pd.DataFrame, window: int = 20) -> Figure:
    """A training's loss by step with its running mean, and on validation documents.

    log: columns loss and validation, and pass where there were several: their means stand apart.
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


def head_maps(maps: Mapping[str, Float[np.ndarray, "layers heads"]]) -> Figure:
    """Layer x head maps side by side, a title each; zero is white, and each map has its own scale."""
    figure, panels = plt.subplots(1, len(maps), figsize=(3.2 * len(maps), 4.4), squeeze=False)
    for axes, (title, values) in zip(panels.flat, maps.items(), strict=True):
        most = float(np.nanmax(np.abs(values))) or 1.0
        image = axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
        axes.set(title=title, xlabel="head")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, shrink=0.7)
    panels[0, 0].set_ylabel("layer")
    return figure


def head_ranking(table: pd.DataFrame, n_layers: int, xlabel: str) -> Figure:
    """The highest heads as dots with intervals, best on top, coloured by depth.

    table: columns layer, head, value, low, high, in order.
    """
    figure, axes = plt.subplots(figsize=(7, 0.26 * len(table) + 1.2))
    rows, colours = np.arange(len(table)), plt.get_cmap("viridis")(table["layer"] / max(n_layers - 1, 1))
    axes.hlines(rows, table["low"], table["high"], color=colours, linewidth=2)
    axes.scatter(table["value"], rows, color=colours, s=36, zorder=3)
    axes.set_yticks(rows, [f"layer {one.layer}, head {one.head}" for one in table.itertuples()])
    axes.axvline(0, color="#8a8a94", linewidth=1)
    axes.set(ylim=(len(table) - 0.5, -0.5), xlabel=xlabel)
    axes.grid(axis="y", visible=False)
    scale = plt.cm.ScalarMappable(plt.Normalize(0, n_layers - 1), "viridis")
    figure.colorbar(scale, ax=axes, label="layer")
    return figure


def courses(table: pd.DataFrame, ylabel: str) -> Figure:
    """The course of groups of heads over the CoT's stages: columns heads, stage, value, low, high."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for name, part in table.groupby("heads", sort=False):
        (line,) = axes.plot(part["stage"], part["value"], marker="o", markersize=4, label=str(name))
        axes.fill_between(part["stage"], part["low"], part["high"], color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xticks(sorted(table["stage"].unique()))
    axes.set(xlabel="stage of the CoT (fifths)", ylabel=ylabel)
    axes.legend()
    return figure


def patched(tables: Mapping[str, pd.DataFrame], between: Mapping[str, float], units: Mapping[str, str]) -> Figure:
    """What patching more and more heads moves: a row a readout, a column a way, a line a kind of heads.

    tables: of each way, columns readout, heads, size, value, low, high. between: of each readout what the corruption
    takes, a dashed line. units: of each readout.
    """
    figure, grid = plt.subplots(
        len(units), len(tables), figsize=(4.4 * len(tables), 2.9 * len(units)), squeeze=False, sharey="row", sharex=True
    )
    kinds = list(dict.fromkeys(name for table in tables.values() for name in table["heads"]))
    colours = dict(zip(kinds, sns.color_palette("colorblind"), strict=False))
    for row, (readout, unit) in enumerate(units.items()):
        for axes, (way, table) in zip(grid[row], tables.items(), strict=True):
            for kind, part in table[table["readout"] == readout].groupby("heads", sort=False):
                axes.plot(part["size"], part["value"], marker="o", markersize=4, color=colours[kind], label=str(kind))
                axes.fill_between(part["size"], part["low"], part["high"], color=colours[kind], alpha=0.15, linewidth=0)
            axes.axhline(between[readout], linestyle="--", color="#6a6a74", linewidth=1, label="clean less corrupted")
            axes.axhline(0, color="#8a8a94", linewidth=0.8)
            axes.set_xscale("log")
            axes.set_xticks(sorted(set(table["size"])))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
            axes.xaxis.minorticks_off()
            axes.set(title=f"{readout}, {way}", xlabel="heads patched" if row == len(units) - 1 else "")
        grid[row, 0].set_ylabel(unit)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def square(table: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """The double dissociation: noised phases by readouts, each cell with its interval, shaded within its column.

    table: columns noised, readout, value, low, high. units: of each readout.
    """
    phases, readouts = list(dict.fromkeys(table["noised"])), list(units)
    cells = table.set_index(["noised", "readout"])
    values = np.array([[cells.loc[(phase, readout), "value"] for readout in readouts] for phase in phases])
    most = np.abs(values).max(0)
    figure, axes = plt.subplots(figsize=(2.9 * len(readouts) + 1, 1.5 * len(phases) + 0.6))
    axes.imshow(values / np.where(most > 0, most, 1), cmap="RdBu_r", vmin=-1.6, vmax=1.6, aspect="auto")
    for row, phase in enumerate(phases):
        for column, readout in enumerate(readouts):
            one = cells.loc[(phase, readout)]
            text = f"{one['value']:.3f}\n[{one['low']:.3f}, {one['high']:.3f}]"
            axes.text(column, row, text, ha="center", va="center", color="black")
    axes.set_xticks(range(len(readouts)), [f"{readout} lost ({units[readout]})" for readout in readouts])
    axes.set_yticks(range(len(phases)), [f"{phase} heads noised" for phase in phases])
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    return figure


def written(table: pd.DataFrame) -> Figure:
    """Focus and Confusion of what is written with more and more heads patched, beside the published curves.

    table: columns panel, line, share (of all heads; 0 for no patch), value, low, high (NaN where published: dashed).
    """
    panels = list(dict.fromkeys(table["panel"]))
    figure, grid = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.4), squeeze=False)
    for axes, panel in zip(grid[0], panels, strict=True):
        for name, part in table[table["panel"] == panel].groupby("line", sort=False):
            style = {"linestyle": "--", "color": "#6a6a74"} if part["low"].isna().all() else {}
            (line,) = axes.plot(part["share"], part["value"], marker="o", markersize=4, label=str(name), **style)
            axes.fill_between(part["share"], part["low"], part["high"], color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(title=panel, xlabel="share of all heads patched")
        axes.set_xscale("symlog", linthresh=5e-4)
        axes.set_xticks([0, 1e-3, 1e-2, 1e-1, 1], ["none", "0.1 %", "1 %", "10 %", "all"])
        axes.xaxis.minorticks_off()
    grid[0, 0].set_ylabel("cosine")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def found_heads(table: pd.DataFrame) -> Figure:
    """How well each score ranks known heads: AUROC with its interval, a dot a score, best on top, chance dashed.

    table: columns score, auroc, low, high.
    """
    figure = ranked(table, "auroc", "AUROC of the planted heads (0.5 is chance)")
    figure.axes[0].axvline(0.5, linestyle="--", color="#8a8a94", linewidth=1)
    figure.axes[0].set_xlim(-0.02, 1.02)
    return figure


def ranked(table: pd.DataFrame, x: str, xlabel: str) -> Figure:
    """A dot with its interval for each row, the highest on top: columns score (its name), x, low, high."""
    ordered = table.sort_values(x, ascending=False, kind="stable")
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(ordered) + 1.1))
    rows = np.arange(len(ordered))
    axes.hlines(rows, ordered["low"], ordered["high"], linewidth=2)
    axes.scatter(ordered[x], rows, s=40, zorder=3)
    axes.set_yticks(rows, ordered["score"])
    axes.set(ylim=(len(ordered) - 0.5, -0.5), xlabel=xlabel)
    axes.grid(axis="y", visible=False)
    return figure


def factorial(tables: Mapping[str, pd.DataFrame], metric: str) -> Figure:
    """A heat map of shortlists by refinements for each study, each cell with its interval; all on one scale.

    tables: of each study, columns shortlist, refinement, value, low, high.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(4.6 * len(tables), 3.6), squeeze=False)
    most = max(table["value"].max() for table in tables.values())
    for axes, (name, table) in zip(panels.flat, tables.items(), strict=True):
        rows, columns = (list(dict.fromkeys(table[of])) for of in ("shortlist", "refinement"))
        cells = table.set_index(["shortlist", "refinement"])
        values = cells["value"].unstack().loc[rows, columns].to_numpy()
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1.6 * (most or 1), aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            one = cells.loc[(rows[row], columns[column])]
            text = f"{value:.3f}\n[{one['low']:.3f}, {one['high']:.3f}]"
            axes.text(column, row, text, ha="center", va="center", color="black", fontsize="small")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(title=f"{name}: {metric}", xlabel="refinement")
        axes.grid(visible=False)
    panels[0, 0].set_ylabel("shortlist")
    return figure


def waterfall(tables: Mapping[str, pd.DataFrame], steps: Sequence[str], ylabel: str) -> Figure:
    """From a start over steps that add up to an end, a panel a study; intervals on every bar.

    tables: of each study, columns name, value, low, high. steps: names of the start, the steps and the end.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(4.4 * len(tables), 3.8), squeeze=False)
    for axes, (name, table) in zip(panels.flat, tables.items(), strict=True):
        rows = table.set_index("name").loc[list(steps)]
        level = 0.0
        for place, (value, low, high) in enumerate(rows[["value", "low", "high"]].to_numpy()):
            whole = place in (0, len(steps) - 1)
            bottom = 0.0 if whole else level
            colour = "#8a8a94" if whole else "#2a7f62" if value >= 0 else "#c0504d"
            axes.bar(place, value, 0.6, bottom=bottom, color=colour)
            axes.vlines(place, bottom + low, bottom + high, color="#333333", linewidth=1.5)
            level = bottom + value
            if place < len(steps) - 1:
                axes.hlines(level, place + 0.3, place + 0.7, color="#8a8a94", linewidth=1)
            axes.text(place, max(bottom, level, bottom + high), f"{value:+.3f}"[whole:], ha="center", va="bottom")
        axes.set_xticks(range(len(steps)), [step.replace(" share of ", "\nshare of\n") for step in steps])
        axes.set(title=name)
        axes.margins(y=0.12)
        axes.grid(axis="x", visible=False)
    panels[0, 0].set_ylabel(ylabel)
    return figure


def additive(tables: Mapping[str, pd.DataFrame], beyond: str, units: Mapping[str, str]) -> Figure:
    """What noising each phase's heads and both costs each readout: a row a study, a panel a readout.

    tables: of each study, columns readout, noised, value, low, high. beyond: the name of what both cost beyond the sum;
    a dashed line marks the sum. units: of each readout.
    """
    figure, grid = plt.subplots(
        len(tables), len(units), figsize=(2.7 * len(units), 2.6 * len(tables) + 0.4), squeeze=False
    )
    for row, (name, table) in zip(grid, tables.items(), strict=True):
        for axes, (readout, unit) in zip(row, units.items(), strict=True):
            part = table[(table["readout"] == readout) & (table["noised"] != beyond)]
            if part.empty:
                axes.set_axis_off()
                continue
            places = range(len(part))
            axes.bar(places, part["value"], 0.6, color=sns.color_palette("colorblind")[: len(part)])
            axes.vlines(places, part["low"], part["high"], color="#333333", linewidth=1.5)
            axes.hlines(part["value"].iloc[:-1].sum(), len(part) - 1.4, len(part) - 0.6, "#6a6a74", linestyle="--")
            axes.axhline(0, color="#8a8a94", linewidth=0.8)
            axes.set_xticks(places, [noised.replace(" ", "\n") for noised in part["noised"]])
            axes.set(title=f"{readout} ({unit})", ylabel=name if axes is row[0] else "")
            axes.grid(axis="x", visible=False)
    return figure
