"""One colour, marker and place for each series through the whole book, so that no figure has to be learned anew.

Notes: colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; markers back them up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

BLUE, ORANGE, GREEN, RED = "#0072b2", "#b86e00", "#00795a", "#c44601"
PINK, SKY, GREY, BLACK = "#a8477f", "#3389bd", "#6a6a74", "#222222"


class Style(NamedTuple):
    """How a series is drawn.

    colour: of lines and markers.
    marker: its shape.
    filled: whether the marker is.
    """

    colour: str
    marker: str
    filled: bool = True

    @property
    def line(self) -> dict[str, Any]:
        """As options of `plot` and `errorbar`."""
        face = self.colour if self.filled else "white"
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": face}


SERIES = {
    "answer": Style(GREY, "v"),
    "cot": Style(BLUE, "o"),
    "fkl": Style(ORANGE, "s"),
    "rkl": Style(GREEN, "^"),
    "mechanistic": Style(RED, "D"),
    "full": Style(RED, "D"),
    "without phase 1": Style(PINK, "P"),
    "without phase 2": Style(SKY, "X"),
    "frequency prior": Style(GREY, "v"),
    "BM25": Style(ORANGE, "s"),
    "wordllama": Style(GREEN, "^"),
    "minilm": Style(BLUE, "o"),
    "random": Style(GREY, "v"),
}
"""The series that have a style of their own, in the order in which figures show them."""
SPARE = tuple(
    Style(colour, marker)
    for colour, marker in ((BLUE, "o"), (RED, "D"), (GREEN, "^"), (ORANGE, "s"), (PINK, "P"), (SKY, "X"), (BLACK, "*"))
)


def base_of(name: str) -> str:
    """The series that a name varies: "cot" of "cot, equal time", "mechanistic" of "mechanistic - cot"."""
    return name.partition(",")[0].partition(" - ")[0].strip()


def ordered(names: Iterable[str]) -> list[str]:
    """Names in the order of `SERIES`, those without a place of their own after them, as they come."""
    places, distinct = list(SERIES), list(dict.fromkeys(names))
    known = {name: places.index(base_of(name)) for name in distinct if base_of(name) in SERIES}
    return sorted(distinct, key=lambda name: known.get(name, len(places)))


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name, all different: a variant of a series has its colour and a hollow marker."""
    chosen: dict[str, Style] = {}
    for name in ordered(names):
        fixed = SERIES.get(base_of(name))
        preferred = [fixed._replace(filled=name == base_of(name))] if fixed else []
        hollow = [style._replace(filled=False) for style in SPARE]
        free = [style for style in (*preferred, *SPARE, *hollow) if style not in chosen.values()]
        chosen[name] = free[0] if free else SPARE[len(chosen) % len(SPARE)]
    return chosen
