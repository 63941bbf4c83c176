"""`ctd init`: prepares a user's own table for the chapters."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ctd.cli.base import OWN, Json, app, print_json


@app.command(
    rich_help_panel=OWN,
    epilog="Examples:  ctd init my.csv  |  ctd init my.csv --label-column codes --separator ';' --out my-task",
)
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A CSV, TSV, JSON Lines or Parquet file.")],
    out: Annotated[Path | None, typer.Option(help="Folder to create; by default named after the table.")] = None,
    text_column: Annotated[
        str, typer.Option(help="Column of texts; by default the column with the longest texts.")
    ] = "",
    label_column: Annotated[str, typer.Option(help="Column of labels; detected by default.")] = "",
    separator: Annotated[
        str | None, typer.Option(help="What separates the labels in a cell, '' for nothing; detected by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe your own documents and labels, and create a folder that ctd run can use.

    The folder holds the documents with their labels, the list of labels, and a parameter file.
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
