"""A figure as files: a picture for readers of the book, one for phones, and the table that it was drawn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ctd.cache import atomic

DPI = 160
PHONE = 4.2  # inches
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

    Pictures have an opaque white face, which is legible in a dark theme.
    """
    options: dict[str, Any] = {"facecolor": "white", "transparent": False}
    with atomic(folder / f"{name}.png") as scratch:
        figure.savefig(scratch, format="png", dpi=DPI, **options)
    phone = narrow(figure)
    with plt.rc_context({"svg.hashsalt": name}):  # the same bytes each time
        for drawn, ending in ((figure, ""), (phone, "-narrow")):
            with atomic(folder / f"{name}{ending}.svg") as scratch:
                drawn.savefig(scratch, format="svg", metadata={"Date": None}, **options)
    plt.close(phone)
    table = getattr(figure, DATA, None)
    if table is not None:
        with atomic(folder / f"{name}.csv") as scratch:
            table.head(MOST_ROWS).to_csv(scratch, index=False)


def narrow(figure: Figure) -> Figure:
    """A copy for phones: panels below each other, text as large as in the figure."""
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
    phone.set_size_inches(min(width, PHONE), height)
    for legend in phone.legends[:]:
        names = [text.get_text() for text in legend.get_texts()]
        phone.legends.remove(legend)
        columns = 1 if max(map(len, names)) > 16 else 2
        handles = [handle for handle in legend.legend_handles if handle is not None]
        phone.legend(handles, names, loc="outside lower center", ncols=columns)
    for axes in phone.axes:
        inside = axes.get_legend()
        if inside is not None:
            inside.set_ncols(1)
    return phone
