"""`ctd pdf`: the book as one file to print or to read elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctd.cli.base import app


@app.command(epilog="Examples:  ctd pdf  |  ctd pdf --site book/_build/html --out ctd.pdf")
def pdf(
    site: Annotated[Path, typer.Option(help="Folder of a built book.")] = Path("book/_build/html"),
    out: Annotated[Path | None, typer.Option(help="The PDF to write; by default book.pdf beside that folder.")] = None,
) -> None:
    """Print the built book to one PDF with an installed Chromium or Chrome.

    All folded parts are opened. A page that would be cut off at the side is an error.
    """
    from ctd.book.pdf import make_pdf

    file = make_pdf(site, out or site.parent / "book.pdf")
    typer.echo(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")
