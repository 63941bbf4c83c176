"""`ctd plan`: what a run costs before it begins."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ctd.book import notebook_files
from ctd.cli.base import Json, Profile, app, print_json, show_table
from ctd.cli.commands import planned


@app.command(
    epilog="Examples:  ctd plan 02 -p teacher=my-model  |  ctd plan 10 --profile full  |  ctd plan 02 -f my.yml"
)
def plan(
    notebook: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="Path, name or number.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="As in ctd run.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Parameter file, as in ctd run.")] = None,
    profile: Profile = "default",
    as_json: Json = False,
) -> None:
    """Estimate what a run costs before it begins: tokens, minutes, memory and disk, on this machine.

    Minutes come from what writing cost here before: the middle, and from the 10th to the 90th of 100. Nothing is run.
    """
    from ctd.book import estimates

    todo = planned(notebook_files.find_notebook(notebook), profile, parameter or (), file)
    estimate = estimates.estimate(todo)
    if as_json:
        print_json(asdict(estimate))
        return
    rows = []
    for part in estimate.parts:
        low, middle, high = part.minutes
        rows.append((part.what, f"{part.tokens:,}", f"{middle:,.1f} ({low:,.1f} to {high:,.1f})", part.source))
    if rows:
        show_table(("work", "tokens", "minutes", "from"), rows)
        typer.echo(f"memory: about {estimate.memory_mib:,.0f} MiB a process for the model and a batch of texts")
        typer.echo(f"disk: about {estimate.disk_mib:,.0f} MiB in the cache")
    else:
        typer.echo("no model writes or is taught in this notebook: it reads, embeds and searches")
    for name, minutes, memory in estimate.earlier[:3]:
        typer.echo(f"earlier here: {name} took {minutes:,.1f} min and {memory:,.0f} MiB")
    typer.echo("Texts, vectors and students that are in the cache, or come with the book, cost nothing.")
