"""Pictures of the two phases together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ctd.book.plots.files import keeps_data


@keeps_data
def factorial(tables: Mapping[str, pd.DataFrame], metric: str) -> Figure:
    """A heat map of shortlists by refinements for each study, each cell with its interval; all on one scale.

    tables: by study, columns shortlist, refinement, value, low, high.
    metric: its name, for the title.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(4.6 * len(tables), 3.6), squeeze=False)
    most = max(table["value"].max() for table in tables.values())
    for axes, (name, table) in zip(panels.flat, tables.items(), strict=True):
        rows, columns = (list(dict.fromkeys(table[name])) for name in ("shortlist", "refinement"))
        cells = table.set_index(["shortlist", "refinement"])
        values = cells["value"].unstack().loc[rows, columns].to_numpy()
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1.6 * (most or 1), aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            cell = cells.loc[(rows[row], columns[column])]
            text = f"{value:.3f}\n[{cell['low']:.3f}, {cell['high']:.3f}]"
            axes.text(column, row, text, ha="center", va="center", color="black", fontsize="small")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(title=f"{name}: {metric}", xlabel="refinement")
        axes.grid(visible=False)
    panels[0, 0].set_ylabel("shortlist")
    return figure


@keeps_data
def waterfall(tables: Mapping[str, pd.DataFrame], steps: Sequence[str], ylabel: str) -> Figure:
    """A waterfall from a start over steps that add up to an end, a panel for each study, with intervals on every bar.

    tables: by study, columns name, value, low, high.
    steps: names of the start, the steps and the end.
    ylabel: of the vertical axis.
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


@keeps_data
def additive(tables: Mapping[str, pd.DataFrame], beyond: str, units: Mapping[str, str]) -> Figure:
    """What noising each phase's heads and both costs each readout: one row per study, one panel per readout.

    tables: by study, columns readout, noised, value, low, high.
    beyond: the name of what both cost beyond the sum, which is not drawn; a dashed line marks the sum.
    units: of each readout.
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
