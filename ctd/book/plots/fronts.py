"""What quality costs, with the Pareto front drawn: the arms that no other beats for as little."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ctd.book.plots.files import keeps_data
from ctd.book.plots.series import styles


@keeps_data
def fronts(table: pd.DataFrame, x: str, xlabel: str) -> Figure:
    """One panel per measure, one dot with its interval per arm, and a line through the arms on the front.

    table: columns arm, measure, value, low, high, on_front and the one that x names. An arm without a cost (NaN) is a
        dotted line across.
    x: the column of the costs.
    xlabel: what they are.
    """
    parts, drawn = list(table.groupby("measure", sort=False)), styles(table["arm"].unique())
    figure, panels = plt.subplots(1, len(parts), figsize=(1 + 4 * len(parts), 4.6), squeeze=False)
    for axes, (measure, part) in zip(panels.flat, parts, strict=True):
        for row in part.to_dict("records"):
            name, value = row["arm"], row["value"]
            if pd.isna(row[x]):
                axes.axhline(value, linestyle=":", color=drawn[name].colour, label=name)
                continue
            spread = [[max(value - row["low"], 0)], [max(row["high"] - value, 0)]]
            options = {"linestyle": "none", "markersize": 7, "elinewidth": 1, "label": name, **drawn[name].line}
            axes.errorbar(row[x], value, yerr=spread, **options)
        front = part[part["on_front"]].sort_values(x)
        axes.step(front[x], front["value"], where="post", color="#8a8a94", linewidth=1, zorder=0, label="Pareto front")
        axes.set(title=str(measure).replace("_", " "), xlabel=xlabel)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
