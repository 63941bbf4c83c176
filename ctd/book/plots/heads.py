"""Pictures of attention heads: their scores, and what patching them moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ctd.book.plots.files import keeps_data
from ctd.book.plots.series import styles
from ctd.book.plots.tables import ranked

DEPTHS = ListedColormap(plt.get_cmap("viridis")(np.linspace(0, 0.75, 256)))  # without yellow, which white outshines


@keeps_data
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


@keeps_data
def head_ranking(table: pd.DataFrame, n_layers: int, xlabel: str) -> Figure:
    """The highest heads as dots with intervals, best on top, coloured by depth.

    table: columns layer, head, value, low, high, in order.
    n_layers: of the model.
    xlabel: of the axis.
    """
    figure, axes = plt.subplots(figsize=(7, 0.26 * len(table) + 1.2))
    rows, colours = np.arange(len(table)), DEPTHS(table["layer"] / max(n_layers - 1, 1))
    axes.hlines(rows, table["low"], table["high"], color=colours, linewidth=2)
    axes.scatter(table["value"], rows, color=colours, s=36, zorder=3)
    axes.set_yticks(rows, [f"layer {row.layer}, head {row.head}" for row in table.itertuples()])
    axes.axvline(0, color="#8a8a94", linewidth=1)
    axes.set(ylim=(len(table) - 0.5, -0.5), xlabel=xlabel)
    axes.grid(axis="y", visible=False)
    scale = plt.cm.ScalarMappable(plt.Normalize(0, n_layers - 1), DEPTHS)
    figure.colorbar(scale, ax=axes, label="layer")
    return figure


@keeps_data
def courses(table: pd.DataFrame, ylabel: str) -> Figure:
    """The course of groups of heads over the CoT's stages: columns heads, stage, value, low, high."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    drawn = styles(map(str, table["heads"].unique()))
    for name, part in table.groupby("heads", sort=False):
        axes.plot(part["stage"], part["value"], markersize=5, label=str(name), **drawn[str(name)].line)
        colour = drawn[str(name)].colour
        axes.fill_between(part["stage"], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(sorted(table["stage"].unique()))
    axes.set(xlabel="stage of the CoT (fifths)", ylabel=ylabel)
    axes.legend()
    return figure


@keeps_data
def patched(tables: Mapping[str, pd.DataFrame], between: Mapping[str, float], units: Mapping[str, str]) -> Figure:
    """What patching more and more heads moves: one row per readout, one column per way, one line per kind of heads.

    tables: by intervention, columns readout, heads, size, value, low, high.
    between: what the corruption takes from each readout, a dashed line.
    units: of each readout.
    """
    figure, grid = plt.subplots(
        len(units), len(tables), figsize=(4.4 * len(tables), 2.9 * len(units)), squeeze=False, sharey="row", sharex=True
    )
    kinds = list(dict.fromkeys(name for table in tables.values() for name in table["heads"]))
    drawn = styles(map(str, kinds))
    for row, (readout, unit) in enumerate(units.items()):
        for axes, (way, table) in zip(grid[row], tables.items(), strict=True):
            for kind, part in table[table["readout"] == readout].groupby("heads", sort=False):
                style = drawn[str(kind)]
                axes.plot(part["size"], part["value"], markersize=5, label=str(kind), **style.line)
                axes.fill_between(part["size"], part["low"], part["high"], color=style.colour, alpha=0.12, linewidth=0)
            axes.axhline(between[readout], linestyle="--", color="#6a6a74", linewidth=1, label="clean minus corrupted")
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


@keeps_data
def square(table: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """The double dissociation: noised phases by readouts, each cell with its interval, shaded within its column.

    A cell whose interval holds 0 stays white.

    table: columns noised, readout, value, low, high.
    units: of each readout.
    """
    phases, readouts = list(dict.fromkeys(table["noised"])), list(units)
    cells = table.set_index(["noised", "readout"])
    values = np.array([[cells.loc[(phase, readout), "value"] for readout in readouts] for phase in phases])
    most = np.abs(values).max(0)
    figure, axes = plt.subplots(figsize=(2.9 * len(readouts) + 1, 1.5 * len(phases) + 0.6))
    shown = np.array([
        [value * (not cells.loc[(phase, readout), "low"] <= 0 <= cells.loc[(phase, readout), "high"])
         for readout, value in zip(readouts, row, strict=True)]
        for phase, row in zip(phases, values, strict=True)
    ])  # fmt: skip
    axes.imshow(shown / np.where(most > 0, most, 1), cmap="RdBu_r", vmin=-1.6, vmax=1.6, aspect="auto")
    for row, phase in enumerate(phases):
        for column, readout in enumerate(readouts):
            cell = cells.loc[(phase, readout)]
            text = f"{cell['value']:.3f}\n[{cell['low']:.3f}, {cell['high']:.3f}]"
            axes.text(column, row, text, ha="center", va="center", color="black")
    axes.set_xticks(range(len(readouts)), [f"{readout} lost\n({units[readout]})" for readout in readouts])
    axes.set_yticks(range(len(phases)), [f"{phase} heads\nnoised" for phase in phases])
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    return figure


@keeps_data
def written(table: pd.DataFrame) -> Figure:
    """Focus and Confusion of what is written with more and more heads patched, beside the published curves.

    table: columns panel, line, share (of all heads; 0 for no patch), value, low, high (NaN where published: dashed).
    """
    panels, drawn = list(dict.fromkeys(table["panel"])), styles(map(str, table["line"].unique()))
    figure, grid = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.4), squeeze=False)
    for axes, panel in zip(grid[0], panels, strict=True):
        for name, part in table[table["panel"] == panel].groupby("line", sort=False):
            is_published = part["low"].isna().all()
            style = {"linestyle": "--", "color": "#6a6a74"} if is_published else drawn[str(name)].line
            axes.plot(part["share"], part["value"], markersize=5, label=str(name), **style)
            axes.fill_between(part["share"], part["low"], part["high"], color=style["color"], alpha=0.12, linewidth=0)
        axes.set(title=panel, xlabel="share of all heads patched")
        axes.set_xscale("symlog", linthresh=5e-4)
        axes.set_xticks([0, 1e-3, 1e-2, 1e-1, 1], ["none", "0.1 %", "1 %", "10 %", "all"])
        axes.xaxis.minorticks_off()
    grid[0, 0].set_ylabel("cosine")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


@keeps_data
def instruments(table: pd.DataFrame, random: Sequence[Float[np.ndarray, " sets"]], units: Mapping[str, str]) -> Figure:
    """What each way of patching known heads moves, beside random sets: one panel per phase, one row per instrument.

    Dots are random sets, the bar their 99th percentile, the diamond the known heads, filled where these are found.

    table: columns instrument, intervention, phase, readout, value, bound and found.
    random: effects of the random sets, for each row of the table.
    units: of each readout.
    """
    names = list(dict.fromkeys(table["intervention"] + ": " + table["instrument"]))
    phases = list(dict.fromkeys(table["phase"]))
    figure, grid = plt.subplots(1, len(phases), figsize=(10, 0.3 * len(names) + 1.3), squeeze=False, sharey=True)
    jitter = np.random.default_rng(0)
    for axes, phase in zip(grid[0], phases, strict=True):
        for row, values in zip(table.itertuples(), random, strict=True):
            if row.phase != phase:
                continue
            place = names.index(f"{row.intervention}: {row.instrument}")
            height = place + jitter.uniform(-0.25, 0.25, len(values))
            axes.scatter(values, height, s=5, color="#8a8a94", alpha=0.5, linewidth=0, rasterized=True)
            axes.vlines(row.bound, place - 0.4, place + 0.4, color="#3a3a44", linewidth=1.5)
            face = "#c23b22" if row.found else "white"
            axes.scatter(row.value, place, marker="D", s=34, facecolor=face, edgecolor="#c23b22", zorder=3)
        axes.axvline(0, color="#8a8a94", linewidth=0.8)
        readout = table.loc[table["phase"] == phase, "readout"].iloc[0]
        axes.set(title=f"{phase} heads", xlabel=f"{readout} ({units[readout]})")
        axes.tick_params(axis="y", labelsize="small")
        axes.grid(axis="y", visible=False)
    grid[0, 0].set_yticks(range(len(names)), names)
    grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
    return figure


@keeps_data
def found_heads(table: pd.DataFrame) -> Figure:
    """How well each score ranks known heads: AUROC with its interval, one dot per score, best on top, chance dashed.

    table: columns score, auroc, low, high.
    """
    figure = ranked(table, "auroc", "AUROC of planted heads (chance: 0.5)")
    figure.axes[0].axvline(0.5, linestyle="--", color="#8a8a94", linewidth=1)
    figure.axes[0].set_xlim(-0.02, 1.02)
    return figure
