"""Numbers into prose: what a notebook says is made from its results, so that no sentence can go stale."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from IPython.display import HTML, Markdown, display

from ctd.stats import Interval

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
MOST_ROWS = 12  # of a table that is not folded


def say(text: str) -> None:
    """Show a paragraph of Markdown."""
    display(Markdown(text))


def markup(page: str) -> None:
    """Show HTML."""
    display(HTML(page))


def text(words: str) -> None:
    """Show what a model wrote as it stands, in a block of its own."""
    fence = "~" * (1 + max(2, *map(len, re.findall("~*", words))))
    say(f"{fence}text\n{words}\n{fence}")


def attended(words: Sequence[str], weights: Sequence[float]) -> None:
    """Show a text with each word shaded by its weight, the largest darkest; the shade is legible in either theme.

    Raises ValueError where words and weights differ in number.
    """
    if len(words) != len(weights):
        raise ValueError(f"every word needs a weight, got {len(words)} words and {len(weights)} weights")
    most = max([*weights, 0.0]) or 1.0
    shaded = (
        f'<span style="background: rgba(230, 120, 30, {max(weight, 0.0) / most:.2f})" title="{weight:.3f}">'
        f"{html.escape(word)}</span>"
        for word, weight in zip(words, weights, strict=True)
    )
    display(HTML(f'<p style="line-height: 1.8">{" ".join(shaded)}</p>'))


def table(
    frame: pd.DataFrame, digits: int = 3, caption: str = "", filters: Sequence[str] = (), *, is_folded: bool = False
) -> None:
    """Show a table.

    digits: after the decimal point.
    caption: shown above it.
    filters: columns by whose values a reader can choose rows (`book/_static/book.js`).
    is_folded: whether its caption hides it until a reader opens it, as it does where it has more than `MOST_ROWS` rows.
    Whole numbers get thousands separators, others are rounded, and NaN is an empty cell. Text stays as it is, except
    that a narrow column may break it before an interval. Column names are shown with spaces for underscores.
    """
    frame = frame.rename(columns=lambda name: str(name).replace("_", " "))
    shown = frame.map(lambda value: _shown(value, digits)).to_html(index=False, border=0, classes="dataframe")
    columns = " ".join(str(list(frame.columns).index(name.replace("_", " "))) for name in filters)
    opened = f'<table data-filters="{columns}"' if filters else "<table"
    head = f"\n  <caption>{html.escape(caption)}</caption>" if caption else ""
    shown = shown.replace("<table", opened, 1).replace(">", f">{head}", 1)
    if is_folded or len(frame) > MOST_ROWS:
        summary = f"{caption.rstrip('.') or 'Table'} ({len(frame):,} row{'s' if len(frame) != 1 else ''})"
        shown = f'<details class="ctd-fold"><summary>{html.escape(summary)}</summary>\n{shown}\n</details>'
    display(HTML(shown))


def wide(frame: pd.DataFrame, row: str, column: str, value: str, digits: int = 3) -> pd.DataFrame:
    """A long table with `low` and `high` as a wide one, each cell "value [low, high]"; order of appearance kept."""
    triples = frame[[value, "low", "high"]].itertuples(index=False)
    cells = frame.assign(cell=[estimate(mean, low, high, digits) for mean, low, high in triples])
    shaped = cells.pivot(index=row, columns=column, values="cell")
    return shaped.loc[frame[row].unique(), list(frame[column].unique())].reset_index().rename_axis(None, axis=1)


def gains(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """A table of gains in few columns.

    frame: as `ctd.distill.tables.gains` makes it.
    names: its columns that say which gain it is.
    Columns: the names, the gain with its interval over documents, those over seeds and over both (empty for a single
    seed), the p-value after Holm, Cohen's d where there is one, and in how many seeds the arm is above.
    """
    over = [estimate(*row) for row in frame[["value", "low", "high"]].itertuples(index=False)]
    others = {"over both": ["both_low", "both_high"], "over seeds": ["seed_low", "seed_high"]}
    beside = {
        name: ["" if math.isnan(low) else bounds(low, high) for low, high in frame[ends].itertuples(index=False)]
        for name, ends in others.items()
        if ends[0] in frame
    }
    effect = frame.columns.intersection(["cohen_d"])
    shown = frame[[*names, "p_holm", *effect, "seeds"]].rename(columns={"p_holm": "p (Holm)", "cohen_d": "d"})
    for name, cells in (*beside.items(), ("gain", over)):
        shown.insert(len(names), name, cells)
    return shown


def bounds(low: float, high: float, digits: int = 3) -> str:
    """The ends of an interval, `[0.351, 0.394]`, which no line break takes apart."""
    return f"[{low:.{digits}f},{NO_BREAK_SPACE}{high:.{digits}f}]"


def estimate(value: float, low: float, high: float, digits: int = 3) -> str:
    """A number with its 95 % interval: `0.372 [0.351, 0.394]`, which no line break takes apart; "none" for NaN."""
    if math.isnan(value):
        return "none"
    return f"{value:.{digits}f}{NO_BREAK_SPACE}{bounds(low, high, digits)}"


def study(dataset: str, teacher: str) -> str:
    """The name of a teacher on a task: `mesh, smollm2-mesh`, or one word where both have the same name."""
    return teacher if dataset == teacher else f"{dataset}, {teacher}"


def by_side(
    differences: Iterable[tuple[str, float, float, float]], above: str, below: str, neither: str, unit: str = ""
) -> str:
    """Which differences lie above 0, which below, and which are not shown to: `lower for cot (-0.1 [-0.2, -0.0])`.

    differences: name, value and the ends of the interval of each.
    above: what is said before the names of those whose whole interval is above 0; `below` and `neither` likewise.
    unit: behind each number.
    """
    sides: dict[str, list[str]] = {above: [], below: [], neither: []}
    for name, value, low, high in differences:
        side = above if low > 0 else below if high < 0 else neither
        sides[side].append(f"{name} ({estimate(value, low, high)}{f' {unit}' if unit else ''})")
    return "; ".join(f"{words} {', '.join(shown)}" for words, shown in sides.items() if shown)


def interval(shown: Interval, digits: int = 3) -> str:
    """A number with its 95 % interval, and how that was made unless by BCa: `0.372 [0.351, 0.394] (percentile)`.

    "none" where there is no number.
    """
    if math.isnan(shown.scalar[0]):
        return "none"
    method = "" if shown.method == "BCa" else f" ({shown.method})"
    return estimate(*shown.scalar, digits=digits) + method


def counts(numbers: Mapping[str, int]) -> str:
    """`1,234 citations, 5 headings`, or "nothing" for an empty mapping."""
    return ", ".join(f"{count:,} {name}" for name, count in numbers.items()) or "nothing"


def _shown(value: object, digits: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{digits}f}"
    return str(value).replace(f"{NO_BREAK_SPACE}[", " [")
