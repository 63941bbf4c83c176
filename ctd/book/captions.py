"""Captions for the tables of a chapter: the sentence that introduces a table, or the heading above it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import nbformat

LONGEST = 200  # characters of a sentence that becomes a caption


def caption_tables(copy: nbformat.NotebookNode) -> None:
    """Give every table in the outputs of a chapter a caption.

    A short sentence that ends with a colon right before a table becomes its caption, and is not said twice.
    """
    heading = ""
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            titles = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
            heading = titles[-1] if titles else heading
        elif cell.cell_type == "code":
            cell.outputs = captioned(cell.outputs, heading)


def captioned(outputs: Sequence[Any], heading: str) -> list[Any]:
    """The outputs of a cell, each table with a caption."""
    done: list[Any] = []
    for output in outputs:
        markup = output.get("data", {}).get("text/html", "")
        if "<table" in markup and "<caption" not in markup:
            before = done[-1].get("data", {}).get("text/markdown", "") if done else ""
            is_introduced = before.rstrip().endswith(":") and len(before) < LONGEST and "{" not in before
            caption = before.strip()[:-1] if is_introduced else heading
            if is_introduced:
                done.pop()
            words = escape(re.sub(r"[*`]", "", caption).rstrip("."))
            stop = "" if words.endswith("?") else "."
            markup = markup.replace("<summary>Table (", f"<summary>{words} (", 1)  # folded, as `report.table` does it
            before_rows, opened, rows = re.split(r"(<table[^>]*>)", markup, maxsplit=1)
            output["data"]["text/html"] = f"{before_rows}{opened}<caption>{words}{stop}</caption>{rows}"
        done.append(output)
    return done
