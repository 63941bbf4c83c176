"""What things cost as they grow, with the machine's limit in the picture."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator

from ctd.book.plots.files import keeps_data
from ctd.book.plots.series import styles


@keeps_data
def costs(table: pd.DataFrame) -> Figure:
    """A panel for each question, both axes logarithmic; a dashed line is the least that an exact computation takes.

    table: of `ctd.book.benchmarks.frame`.
    """
    parts = list(table.groupby("question", sort=False))
    rows, columns = -(-len(parts) // 2), min(2, len(parts))
    figure, panels = plt.subplots(rows, columns, figsize=(2 + 3.8 * columns, 3.6 * rows), squeeze=False)
    for axes, (question, part) in zip(panels.flat, parts, strict=False):
        drawn = styles(part["way"].unique())
        for way, style in drawn.items():
            line = part[part["way"] == way].sort_values("size")
            axes.plot(line["size"], line["seconds"], markersize=5, label=way, **style.line)
        limit = part.dropna(subset="limit").drop_duplicates("size").sort_values("size")
        if len(limit):
            axes.plot(limit["size"], limit["limit"], "--", color="black", linewidth=1, label="limit of the machine")
        axes.set(title=question, xlabel=part["grows"].iloc[0], ylabel="seconds", xscale="log", yscale="log")
        axes.set_xticks(sorted(part["size"].unique()))
        axes.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(fontsize=8)
    for axes in panels.flat[len(parts) :]:
        axes.remove()
    return figure
