"""What the commands share: the application that they belong to, options, and tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctd.book.command_errors import OneLineErrors

OWN, FILES = "Your own data and models", "This machine: cache, speed, runs as files"
"""Panels of `ctd --help`; what has none is about the book and its runs."""
app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    help="Run the notebooks of the book, inspect and check their runs, label documents, and teach students.",
    epilog="Examples:  ctd run 01  |  ctd init my.csv  |  ctd predict retrieval notes.txt --labels mesh. Environment: "
    "CTD_DEBUG=1 shows the traceback of an error; CTD_CACHE is the cache folder and CTD_CACHE_GB limits its size (ctd "
    "cache); CTD_WORKERS is the number of processes, CTD_DTYPE (float32 or bfloat16) the number type of models (ctd "
    "machine). For many machines see ctd sweep --on and CTD_RAY, the address of a Ray cluster (book/many_machines.md).",
)
Profile = Annotated[
    str, typer.Option(help="Name of the settings in notebooks/profiles.yml: smoke, default, full or paper.")
]
Jobs = Annotated[
    int,
    typer.Option(
        min=0, help="How many notebooks run at a time; 0 for one per core (or CTD_WORKERS), and one on a GPU."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
RUN_HELP = "A run: STEM/PROFILE (such as 01_retrieval_shortlists/smoke) or its folder."


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]], as_json: bool = False) -> None:
    """Print a table; off a terminal it is as wide as it needs to be.

    as_json: print a list of objects instead.
    """
    if as_json:
        print_json([dict(zip(heads, row, strict=True)) for row in rows])
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table, soft_wrap=not console.is_terminal)


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know, such as a path, as text."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))
