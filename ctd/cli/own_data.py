"""`ctd init`: a user's own table made ready for the chapters."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ctd.cli.base import Json, app, print_json


@app.command(epilog="Examples:  ctd init my.csv  |  ctd init my.csv --label-column codes --separator ';' --out my-task")
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, TSV, JSON Lines or Parquet.")],
    out: Annotated[Path | None, typer.Option(help="Folder to be made; by default named after the table.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts; by default the one with the longest.")] = "",
    label_column: Annotated[str, typer.Option(help="Column of the labels; found out by default.")] = "",
    separator: Annotated[
        str | None, typer.Option(help="What divides the labels of a cell, '' for nothing; found out by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at your own documents and labels, say what they are like, and make a folder that ctd run takes.

    The folder holds the documents with their labels as lists, the labels, and a parameter file.
    """
    from ctd.book import starter
    from ctd.cache import require_free
    from ctd.data.survey import survey

    folder = out or Path(table.name.partition(".")[0])
    require_free(folder, "name another folder with --out")
    surveyed = survey(table, text_column, label_column, separator)
    starter.write(surveyed, folder)
    if as_json:
        print_json({**asdict(surveyed), "folder": folder, "commands": starter.commands(folder)})
        return
    for line in surveyed.sentences():
        typer.echo(f"- {line}")
    typer.echo(f"\n{folder}/ holds {starter.DOCUMENTS}, {starter.LABELS} and {starter.PARAMETERS}. Next:\n")
    for command in starter.commands(folder):
        typer.echo(f"  {command}")
