"""`ctd plan`: what a run costs before it begins."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ctd.book import notebook_files
from ctd.cli.base import OWN, Json, Profile, app, print_json, show_table
from ctd.cli.commands import planned

FREE = "Texts, vectors and students that are in the cache, or come with the book, cost nothing."


@app.command(
    rich_help_panel=OWN,
    epilog="Examples:  ctd plan 02 -p teacher=my-model  |  ctd plan 10 --profile full  |  ctd plan 02 -f my.yml  |  "
    "ctd plan --profile paper",
)
def plan(
    notebook: Annotated[
        str,
        typer.Argument(metavar="[NOTEBOOK]", help="Path, name or number; without it, all notebooks that use a model."),
    ] = "",
    parameter: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="As in ctd run.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Parameter file, as in ctd run.")] = None,
    profile: Profile = "default",
    as_json: Json = False,
) -> None:
    """Estimate what a run costs before it begins: tokens, minutes, memory, disk and GPU hours.

    Minutes are estimated from earlier runs on this machine: the median, with the range from the 10th to the 90th
    percentile. GPU hours are those of one H100 and were not measured. Nothing is run.
    """
    from ctd.book import estimates

    if not notebook:
        if parameter or file:
            raise ValueError("-p and -f are for one notebook: name it, such as ctd plan 02 -p n_documents=500")
        _whole(profile, as_json)
        return
    estimate = estimates.estimate(planned(notebook_files.find_notebook(notebook), profile, parameter or (), file))
    if as_json:
        print_json(asdict(estimate))
        return
    rows = [(part.what, f"{part.tokens:,}", spread(part.minutes), part.source) for part in estimate.parts]
    if rows:
        show_table(("work", "tokens", "minutes", "from"), rows)
        typer.echo(f"memory: about {estimate.memory_mib:,.0f} MiB a process for the model and a batch of texts")
        typer.echo(f"disk: about {estimate.disk_mib:,.0f} MiB in the cache")
        typer.echo(f"on a GPU: about {spread(estimate.gpu_hours)} hours of one {estimates.GPU}, an estimate")
    else:
        typer.echo("no model writes or is taught in this notebook: it reads, embeds and searches")
    for name, minutes, memory in estimate.earlier[:3]:
        typer.echo(f"earlier here: {name} took {minutes:,.1f} min and {memory:,.0f} MiB")
    typer.echo(FREE)


def spread(values: tuple[float, float, float]) -> str:
    """The middle of an estimate, and from where to where it may be."""
    low, middle, high = values
    return f"{middle:,.1f} ({low:,.1f} to {high:,.1f})"


def _whole(profile: str, as_json: bool) -> None:
    """Estimate every notebook of a profile that uses a model, and their sum."""
    from ctd.book import estimates

    by_chapter = {}
    for path in notebook_files.notebooks():
        if (estimate := estimates.estimate(planned(path, profile, ()))).parts:
            by_chapter[path.stem] = estimate
    if as_json:
        print_json({stem: asdict(estimate) for stem, estimate in by_chapter.items()})
        return
    rows = []
    for stem, estimate in by_chapter.items():
        tokens = sum(part.tokens for part in estimate.parts)
        rows.append((stem, f"{tokens:,}", spread(estimate.gpu_hours), f"{estimate.disk_mib / 1024:,.1f}"))
    low, middle, high = (sum(estimate.gpu_hours[n] for estimate in by_chapter.values()) for n in range(3))
    tokens = sum(part.tokens for estimate in by_chapter.values() for part in estimate.parts)
    disk = max((estimate.disk_mib for estimate in by_chapter.values()), default=0.0) / 1024
    rows.append(("together", f"{tokens:,}", spread((low, middle, high)), f"{disk:,.1f} at a time"))
    show_table(("notebook", "tokens", f"hours of one {estimates.GPU}", "GiB of disk"), rows)
    typer.echo("GPU hours are an estimate for a GPU that was not measured; nobody has run the profile paper.")
    typer.echo(FREE)
