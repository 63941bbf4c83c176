"""`ctd pack` and `ctd unpack`: a run as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctd.cli.base import RUN_HELP, app


@app.command(epilog="Example:  ctd pack 01_retrieval_shortlists/smoke --out mine.ctd.zip")
def pack(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    out: Annotated[Path | None, typer.Option(help="The archive; by default named after notebook and run.")] = None,
) -> None:
    """Pack a run into one file, with the SHA-256 of each of its files."""
    from ctd.book import archives, run_folder

    folder = run_folder.find_run(run)
    file = archives.pack(folder, out or Path(f"{folder.stem}-{folder.path.name}{archives.SUFFIX}"))
    typer.echo(f"{file}: {file.stat().st_size / 2**20:.1f} MiB; elsewhere: ctd unpack {file.name}")


@app.command(epilog="Example:  ctd unpack mine.ctd.zip --out runs/mine")
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="What ctd pack wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to be made; by default runs/ and the archive's name.")
    ] = None,
) -> None:
    """Unpack a run and check every file. Nothing is kept of an archive that is damaged or was changed.

    The hashes show damage, not who packed it. Its notebook is code, which ctd validate runs: read a stranger's first.
    """
    from ctd.book import archives, run_folder

    folder = archives.unpack(archive, out or run_folder.RUNS / archive.name.removesuffix(archives.SUFFIX))
    typer.echo(f"{folder.path}: {folder.stem}, {len(folder.rows)} results, all files as they were packed")
