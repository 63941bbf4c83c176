"""The command that builds the explorer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ctd.cli.base import OWN, Profile, app


@app.command(
    rich_help_panel=OWN,
    epilog="Examples:  ctd explorer  |  ctd explorer --dataset records --source my.csv --teacher my-model "
    "--n-documents 12 --out my-explorer",
)
def explorer(
    profile: Profile = "default",
    dataset: Annotated[
        str | None, typer.Option(help="The task, by its name in the notebooks; by default those of the book.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="The reasoning model, by its name in the notebooks; '' for none.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Your own data, for the datasets mimic, xmc and records: a folder or file.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="For records: the column that holds the text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="For records: the column that holds the labels.")] = None,
    encoder: Annotated[str | None, typer.Option(help="wordllama, minilm or a sentence-transformers model.")] = None,
    n_documents: Annotated[
        int | None, typer.Option(min=2, max=1000, help="Number of test documents to show (24).")
    ] = None,
    n_with_heads: Annotated[
        int | None, typer.Option(min=0, help="How many of them have recorded attention (8).")
    ] = None,
    n_silenced: Annotated[
        int | None, typer.Option(min=0, help="How many of them are rewritten with each head silenced (4).")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=16, help="Tokens that the teacher may write about a document.")
    ] = None,
    whole_documents: Annotated[
        bool | None, typer.Option("--whole-documents", help="Copy your documents whole instead of their first words.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for drawing documents.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for index.html and its data.")] = Path("explorer"),
) -> None:
    """Build the explorer of traces, heads and labels: a folder of pages that opens in a browser, offline.

    Without --dataset, --teacher and --source it shows the same as the book under this profile.
    """
    from ctd.book.explorer import make

    options: dict[str, Any] = {
        "source": source, "text_column": text_column, "label_column": label_column, "encoder": encoder,
        "n_documents": n_documents, "n_with_heads": n_with_heads, "n_silenced": n_silenced, "max_tokens": max_tokens,
        "whole_documents": whole_documents, "seed": seed,
    }  # fmt: skip
    chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if dataset is None and teacher is None and not source:
        collections = [replace(collection, **chosen) for collection in make.book_collections(profile)]
    else:
        collections = [make.own_collection(dataset or "organism", teacher, **chosen)]
    result = make.make(collections, out)
    typer.echo(f"the explorer ({result.n_bytes / 1e6:.1f} MB): {result.page}")
    if result.n_bytes > make.LARGEST:
        typer.echo("warning: over 5 MB; lower --n-with-heads or --n-documents for a page that loads fast", err=True)
