"""Words of the glossary in a chapter, linked where they are first used."""

from __future__ import annotations

import re

import nbformat

LINKED = {
    "cot": "cot",
    "fkl": "fkl, rkl",
    "rkl": "fkl, rkl",
    "arm": "arm",
    "margin": "margin",
    "CoarseScore": "CoarseScore, RefineScore",
    "RefineScore": "CoarseScore, RefineScore",
    "noising": "noising, denoising",
    "denoising": "noising, denoising",
    "oracle": "oracle",
    "LAS": "LAS",
    "AUROC": "AUROC",
    "near miss": "near miss",
    "Focus": "Focus, Confusion",
    "Confusion": "Focus, Confusion",
    "published run": "published run",
}
"""A word, and the entry of `book/glossary.md` that explains it."""
PROTECTED = re.compile(
    r"~~~.*?~~~|```.*?```|^#.*?$|^\|.*?$|^:.*?$|^\(.*?\)=$|<[^>]+>"  # blocks, headings, tables, directives, HTML
    r"|{[\w:]+}`[^`]*`|`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)",  # roles, code, mathematics, links
    re.DOTALL | re.MULTILINE,
)


def link_terms(copy: nbformat.NotebookNode) -> None:
    """Link the first use of each word in the Markdown of a chapter to its entry in the glossary."""
    waiting = dict(LINKED)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = _linked(cell.source, waiting)


def _linked(text: str, waiting: dict[str, str]) -> str:
    for word in list(waiting):
        protected = [match.span() for match in PROTECTED.finditer(text)]
        for match in re.finditer(rf"\b{re.escape(word)}(?:e?s)?\b", text):
            if not any(start <= match.start() < end for start, end in protected):
                role = f"{{term}}`{match[0]} <{waiting.pop(word)}>`"
                text = text[: match.start()] + role + text[match.end() :]
                break
    return text
