"""A figure of a chapter as a page shows it: a picture for each width of screen, and its data to take along."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import nbformat

LARGEST = 400_000  # bytes of an SVG; a larger one is shown as PNG
MOST_ROWS = 40  # of a table that is shown beneath its figure
CALL = re.compile(r"\brun\.figure\(\s*[\"']([\w-]+)[\"']")


def picture(folder: Path, address: str, name: str, alt: str) -> str:
    """The HTML of a figure.

    folder: where its files are.
    address: of that folder, as seen from the page.
    name: of the figure.
    alt: the text for readers who cannot see it.
    """
    wide, phone = folder / f"{name}.svg", folder / f"{name}-narrow.svg"
    shown = f"{name}.svg" if wide.is_file() and wide.stat().st_size <= LARGEST else f"{name}.png"
    for_phones = ""
    if phone.is_file() and phone.stat().st_size <= LARGEST:
        for_phones = f'<source media="(max-width: 600px)" srcset="{address}/{name}-narrow.svg">'
    image = f'<img src="{address}/{shown}" alt="{escape(alt)}" class="ctd-figure">'
    return f"<picture>{for_phones}{image}</picture>{downloads(folder, address, name)}"


def downloads(folder: Path, address: str, name: str) -> str:
    """Links to the files of a figure, and its data as a table that unfolds."""
    links = [
        f'<a href="{address}/{name}.{kind}" download>{kind.upper()}</a>'
        for kind in ("svg", "png", "csv")
        if (folder / f"{name}.{kind}").is_file()
    ]
    data = folder / f"{name}.csv"
    rows = list(csv.reader(data.read_text(encoding="utf-8").splitlines())) if data.is_file() else []
    unfolds = table(rows) if 1 < len(rows) <= MOST_ROWS + 1 else ""
    return f'<div class="ctd-downloads">Take this figure: {" · ".join(links)}{unfolds}</div>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the first of them names, as a folded table; numbers are rounded."""
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(rounded(cell))}</td>' for cell in row)}</tr>" for row in rows[1:])
    return (
        '<details class="ctd-fold"><summary>The numbers of this figure</summary><div class="ctd-scroll">'
        f'<table class="dataframe"><caption>The numbers of this figure.</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def rounded(cell: str) -> str:
    return f"{float(cell):.3f}" if re.fullmatch(r"-?\d+\.\d+(e[-+]\d+)?", cell) else cell


def show(copy: nbformat.NotebookNode, folder: Path, address: str, sentences: dict[str, str]) -> None:
    """Show the saved figures of an executed chapter in place of those that its cells displayed.

    sentences: the recorded sentence by the name of the figure that shows it, for the alternative text.
    """
    for cell in copy.cells:
        names = CALL.findall(cell.source) if cell.cell_type == "code" else []
        images = [output for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})]
        if not names or len(names) != len(images):
            continue
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        for name, output in zip(names, images, strict=True):
            if (folder / f"{name}.png").is_file():
                alt = alternative(caption, sentences.get(name, ""))
                output["data"] = {"text/html": picture(folder, address, name, alt)}


def alternative(caption: str, sentence: str) -> str:
    """The alternative text of a figure: its caption, and what was found, without marks of Markdown."""
    words = " ".join(f"{caption} {sentence}".split())
    return re.sub(r"[*`]|{\w+}", "", words).strip()
