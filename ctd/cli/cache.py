"""`ctd cache`: what the cache holds, and room in it."""

from __future__ import annotations

import math
import time
from typing import Annotated

import typer

from ctd.cli.base import FILES, Json, app, show_table


@app.command(
    rich_help_panel=FILES,
    epilog="Examples:  ctd cache  |  ctd cache --keep-gb 5  |  ctd cache --keep-gb 0 (make clean-cache)",
)
def cache(
    keep_gb: Annotated[
        float | None,
        typer.Option("--keep-gb", min=0, help="Remove what was unused for longest, until this many GiB are left."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what the cache holds, or remove what was unused for longest.

    Anything in use by a running process stays, and so does anything that ctd did not make. CTD_CACHE_GB limits the
    size of the cache after every run.
    """
    from ctd import cache_room
    from ctd.cache import cache_base

    most = cache_room.limit()
    if keep_gb is not None:
        if not math.isfinite(keep_gb):
            raise ValueError(f"--keep-gb must be a number from 0 on, got {keep_gb}")
        done = cache_room.shrink(int(keep_gb * 2**30))
        typer.echo(
            err=as_json,
            message=f"removed {len(done.removed)} things, {sum(entry.size for entry in done.removed) / 2**20:,.1f} MiB",
        )
        if done.in_use:
            typer.echo(err=as_json, message=f"{len(done.in_use)} things stay, for they are in use")
    rows = cache_room.table()
    show_table(
        ("kind", "entries", "MiB", "longest unused", "what it is"),
        [(row.kind, str(row.entries), f"{row.size / 2**20:,.1f}", _ago(row.used), row.meaning) for row in rows],
        as_json,
    )
    if as_json:
        return
    bound = "no bound; set CTD_CACHE_GB to one" if most is None else f"CTD_CACHE_GB allows {most / 2**30:g} GiB"
    typer.echo(f"{cache_base()}: {sum(row.size for row in rows) / 2**30:.2f} GiB ({bound})")


def _ago(used: float | None) -> str:
    return "" if used is None else f"{max(0.0, time.time() - used) / 86_400:.1f} days ago"
