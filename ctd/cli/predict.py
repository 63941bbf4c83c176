"""`ctd predict`: labels for documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ctd.cli.base import OWN, app

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Folder of a student, name of a teacher, folder or id of a model, retrieval, or linear."
    ),
]
Labels = Annotated[str, typer.Option(help="File of labels or name of a dataset; a student brings its own.")]
Top = Annotated[int, typer.Option(help="Largest number of labels for a document.")]
Shortlist = Annotated[int, typer.Option(help="Length of the shortlist (retrieval and linear).")]
ModeOption = Annotated[
    Literal["trace", "answer"] | None,
    typer.Option(help="Reason first (trace) or answer at once (answer); by default as the model was taught."),
]
MaxTokens = Annotated[int, typer.Option(help="Tokens that the model may write about a document.")]
Encoder = Annotated[str, typer.Option(help="wordllama, minilm or a sentence-transformers model.")]


@app.command(
    rich_help_panel=OWN,
    epilog="Examples:  ctd predict my-student notes.jsonl --out labels.jsonl  |  ctd predict retrieval notes.csv "
    "--labels mesh --top 20  |  cat notes.txt | ctd predict organism - --labels organism  |  "
    "ctd predict linear notes.csv --labels organism",
)
def predict(
    model: ModelName,
    source: Annotated[
        str,
        typer.Argument(
            help="A JSON Lines, CSV, TSV or Parquet file, a text file with one document per line, or - for stdin."
        ),
    ] = "-",
    labels: Labels = "",
    out: Annotated[Path | None, typer.Option(help="File to write; a run that was killed continues it.")] = None,
    top: Top = 10,
    shortlist: Shortlist = 50,
    mode: ModeOption = None,
    max_tokens: MaxTokens = 512,
    encoder: Encoder = "",
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    uid_column: Annotated[str, typer.Option(help="Column that names the documents; by default uid or id.")] = "",
) -> None:
    """Label documents. Prints one JSON object per line: labels with scores, the shortlist and the trace.

    Two models need no language model. retrieval finds the labels nearest to a document. linear also fits classifiers
    to the training documents of the dataset that --labels names.

    With --out, a run that was killed continues where it stopped. The book explains the scores (Run it on your model).
    """
    from ctd.data import documents
    from ctd.distill import student_predictor
    from ctd.reasoning import predictions_file

    if out is not None:
        predictions_file.check(out)
    stdin = source == documents.STDIN
    texts = documents.read(source, text_column, uid_column)
    total = None
    if not stdin:
        texts = iter(read := list(texts))
        total = len(read)
    predictor = student_predictor.load(
        model, labels, encoder, n_labels=top, n_shortlist=shortlist, mode=mode or "", max_tokens=max_tokens
    )
    if out is None:
        for batch in predictions_file.records(predictor, texts, total=total):
            typer.echo("".join(map(predictions_file.as_line, batch)), nl=False)
        return
    n_there, n_added = predictions_file.write(predictor, texts, out, total)
    typer.echo(f"{out}: {n_there + n_added:,} documents, {n_added:,} of them labelled now")
