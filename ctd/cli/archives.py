"""`ctd pack` and `ctd unpack`: a run as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctd.cli.base import FILES, RUN_HELP, app


@app.command(rich_help_panel=FILES, epilog="Example:  ctd pack 01_retrieval_shortlists/smoke --out mine.ctd.zip")
def pack(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    out: Annotated[
        Path | None, typer.Option(help="The archive to write; by default named after the notebook and the run.")
    ] = None,
) -> None:
    """Pack a run into one archive, with the SHA-256 of each file."""
    from ctd.book import archives, run_folder

    folder = run_folder.find_run(run)
    file = archives.pack(folder, out or Path(f"{folder.stem}-{folder.path.name}{archives.SUFFIX}"))
    typer.echo(f"{file}: {file.stat().st_size / 2**20:.1f} MiB; elsewhere: ctd unpack {file.name}")


@app.command(rich_help_panel=FILES, epilog="Example:  ctd unpack mine.ctd.zip --out runs/mine")
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="An archive made by ctd pack.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to create; by default in runs/, named after the archive.")
    ] = None,
) -> None:
    """Unpack a run and check every file. A damaged or altered archive leaves nothing behind.

    The hashes reveal damage, not who packed the run. ctd validate executes its notebook, so read a stranger's first.
    """
    from ctd.book import archives, run_folder

    folder = archives.unpack(archive, out or run_folder.RUNS / archive.name.removesuffix(archives.SUFFIX))
    typer.echo(f"{folder.path}: {folder.stem}, {len(folder.rows)} results, all files as they were packed")
