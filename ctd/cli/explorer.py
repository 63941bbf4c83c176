"""The command that builds the explorer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ctd.cli.base import Profile, app


@app.command(
    epilog="Examples:  ctd explorer  |  ctd explorer --dataset records --source my.csv --teacher my-model "
    "--n-documents 12 --out my-explorer"
)
def explorer(
    profile: Profile = "default",
    dataset: Annotated[str | None, typer.Option(help="Task, as in the notebooks; else the book's own.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Who reasons, as in the notebooks; '' for nobody.")] = None,
    source: Annotated[str | None, typer.Option(help="Your own data (mimic, xmc, records): folder or file.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text (records).")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels (records).")] = None,
    encoder: Annotated[str | None, typer.Option(help="wordllama, minilm or a sentence-transformers model.")] = None,
    n_documents: Annotated[int | None, typer.Option(min=2, max=1000, help="Test documents to show (24).")] = None,
    n_with_heads: Annotated[int | None, typer.Option(min=0, help="Of these, with recorded attention (8).")] = None,
    n_silenced: Annotated[int | None, typer.Option(min=0, help="Of these, written anew without each head (4).")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=16, help="What the teacher may write about a document.")] = None,
    whole_documents: Annotated[
        bool | None, typer.Option("--whole-documents", help="Copy your documents whole, not their first words.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draws documents.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that gets index.html and its data.")] = Path("explorer"),
) -> None:
    """Build the explorer: traces, heads and the map of labels as a folder of pages that opens from a file, offline.

    Without --dataset, --teacher and --source it shows what the book shows under the profile.
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
