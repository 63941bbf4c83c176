"""A figure as files: a picture for readers of the book, one for phones, and the table that it was drawn from."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from itertools import combinations
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from ctd.cache import atomic

DPI = 160
PHONE, LINE = 4.2, 0.18  # inches: the width of a figure, and the height of a line of text
ROW, TITLE = 30, 40  # characters of a line of a row's name, and of a title, on a phone
MOST_ROWS = 20_000  # of a table behind a figure
DATA = "ctd_data"  # the attribute of a figure that holds its table
Drawn = ParamSpec("Drawn")


def keeps_data(draw: Callable[Drawn, Figure]) -> Callable[Drawn, Figure]:
    """A function that draws, whose figures keep the tables that they were drawn from."""

    @wraps(draw)
    def drawn(*args: Drawn.args, **kwargs: Drawn.kwargs) -> Figure:
        figure = draw(*args, **kwargs)
        tables = [
            table for value in signature(draw).bind(*args, **kwargs).arguments.values() for table in _tables(value)
        ]
        if tables:
            setattr(figure, DATA, pd.concat(tables, ignore_index=True))
        return figure

    return drawn


def _tables(value: Any) -> list[pd.DataFrame]:
    """What an argument of a drawing function holds as tables; [] for what is no data."""
    if isinstance(value, pd.DataFrame):
        return [value]
    if not isinstance(value, Mapping):
        return []
    tables = []
    for name, part in value.items():
        if isinstance(part, pd.DataFrame):
            tables.append(part.assign(panel=name))
        elif isinstance(part, np.ndarray) and part.size <= MOST_ROWS:
            places = dict(zip(("row", "column") if part.ndim > 1 else ("place",), np.indices(part.shape), strict=True))
            flat = {axis: index.ravel() for axis, index in places.items()}
            tables.append(pd.DataFrame({"series": name, **flat, "value": part.ravel()}))
    return tables


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `<name>.png`, `.svg`, `-narrow.svg` and, where the figure keeps its table, `.csv`.

    Pictures have an opaque white face, which is legible in a dark theme, and are as large as what they show.
    """
    options: dict[str, Any] = {"facecolor": "white", "transparent": False, "bbox_inches": "tight"}
    wide, phone = without_overlaps(copy.deepcopy(figure)), narrow(figure)
    with atomic(folder / f"{name}.png") as scratch:
        wide.savefig(scratch, format="png", dpi=DPI, **options)
    with plt.rc_context({"svg.hashsalt": name}):  # the same bytes each time
        for drawn, ending in ((wide, ""), (phone, "-narrow")):
            with atomic(folder / f"{name}{ending}.svg") as scratch:
                drawn.savefig(scratch, format="svg", metadata={"Date": None}, **options)
            plt.close(drawn)
    table = getattr(figure, DATA, None)
    if table is not None:
        with atomic(folder / f"{name}.csv") as scratch:
            table.head(MOST_ROWS).to_csv(scratch, index=False)


def narrow(figure: Figure) -> Figure:
    """A copy for phones: panels below each other, long words on several lines, text as large as in the figure."""
    phone = copy.deepcopy(figure)
    grid = [(axes, axes.get_subplotspec()) for axes in phone.axes]
    panels = [(axes, place) for axes, place in grid if place is not None]
    width, height = phone.get_size_inches()
    columns = max((place.get_gridspec().ncols for _, place in panels), default=1)
    rows = max((place.get_gridspec().nrows for _, place in panels), default=1)
    if columns > 1:
        column = phone.add_gridspec(len(panels), 1)
        for place, (axes, _) in enumerate(panels):
            axes.set_subplotspec(column[place])
            axes.tick_params(labelleft=True, labelbottom=True)
        height *= len(panels) / rows
    needed = 0.0
    for axes in phone.axes:
        axes.set(xlabel=_lines(axes.get_xlabel(), TITLE), ylabel=_lines(axes.get_ylabel(), TITLE))
        axes.set_title(_lines(axes.get_title(loc="left"), TITLE), loc="left")
        axes.set_title(_lines(axes.get_title(loc="center"), TITLE), loc="center")
        ticks = [label.get_text() for label in axes.get_yticklabels()]
        if any(len(tick) > ROW for tick in ticks):
            ticks = [_lines(tick, ROW) for tick in ticks]
            axes.set_yticks(axes.get_yticks(), ticks)
        needed += LINE * len(ticks) * max((tick.count("\n") + 1 for tick in ticks), default=0)
    phone.set_size_inches(min(width, PHONE), max(height, needed))
    return without_overlaps(phone)


def _lines(text: str, longest: int) -> str:
    """Text on lines of `longest` characters; lines that it has already are kept."""
    return "\n".join(textwrap.fill(line, longest) for line in text.split("\n"))


def without_overlaps(figure: Figure) -> Figure:
    """The figure, changed so that its legend is no wider than it and no two words lie upon each other."""
    for legend in figure.legends[:]:
        for columns in (3, 2, 1):
            legend = _with_columns(figure, legend, columns)
            figure.draw_without_rendering()
            if legend.get_window_extent().width <= figure.bbox.width:
                break
    figure.draw_without_rendering()
    for axes in figure.axes:
        if _overlap(axes.texts):
            for text in axes.texts:
                text.set_text(text.get_text().replace(", ", ",\n"))
        if _overlap([label for label in axes.get_xticklabels() if label.get_text()]):
            axes.tick_params(axis="x", rotation=45)
    return figure


def _with_columns(figure: Figure, legend: Legend, columns: int) -> Legend:
    """The legend of a figure laid out anew, with the same entries."""
    names = [text.get_text() for text in legend.get_texts()]
    drawn = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        drawn.update(dict(zip(labels, handles, strict=True)))
    figure.legends.remove(legend)
    return figure.legend([drawn[name] for name in names], names, loc="outside lower center", ncols=columns)


def _overlap(texts: Sequence[Text]) -> bool:
    """Whether any two of some texts that are drawn lie upon each other."""
    boxes = [text.get_window_extent() for text in texts]
    return any(first.overlaps(second) for first, second in combinations(boxes, 2))
