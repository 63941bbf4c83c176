"""`ctd predict`: labels for documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ctd.cli.base import app

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A student's folder, a teacher's name, a model's folder or id, retrieval, or linear."
    ),
]
Labels = Annotated[str, typer.Option(help="File of labels, or a dataset's name; a student brings its own labels.")]
Top = Annotated[int, typer.Option(help="Labels of a document at most.")]
Shortlist = Annotated[int, typer.Option(help="Places of the shortlist (retrieval and linear).")]
ModeOption = Annotated[
    Literal["trace", "answer"] | None,
    typer.Option(help="Reason first, or answer at once; by default as it was taught."),
]
MaxTokens = Annotated[int, typer.Option(help="That a model writes about a document at most.")]
Encoder = Annotated[str, typer.Option(help="wordllama, minilm or a sentence-transformers model.")]


@app.command(
    epilog="Examples:  ctd predict my-student notes.jsonl --out labels.jsonl  |  ctd predict retrieval notes.csv "
    "--labels mesh --top 20  |  cat notes.txt | ctd predict organism - --labels organism  |  "
    "ctd predict linear notes.csv --labels organism"
)
def predict(
    model: ModelName,
    source: Annotated[
        str, typer.Argument(help="JSON Lines, CSV, TSV or Parquet, a text file with a document a line, or - for stdin.")
    ] = "-",
    labels: Labels = "",
    out: Annotated[Path | None, typer.Option(help="File to write, and to go on with after a kill.")] = None,
    top: Top = 10,
    shortlist: Shortlist = 50,
    mode: ModeOption = None,
    max_tokens: MaxTokens = 512,
    encoder: Encoder = "",
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    uid_column: Annotated[str, typer.Option(help="Column of the documents' names; uid or id, if none is named.")] = "",
) -> None:
    """Label documents: one JSON object a line, with labels and scores, the shortlist and the trace.

    Without a language model, retrieval finds the labels nearest to a document. linear adds classifiers for the labels
    of the training documents of the dataset that --labels names, which it fits first.

    With --out a run that was killed goes on where it stopped. Scores are explained in the book (Run it your way).
    """
    from ctd.data import documents
    from ctd.reasoning import predictions_file
    from ctd.reasoning.predictor import Predictor

    if out is not None:
        predictions_file.check(out)
    stdin = source == documents.STDIN
    texts = documents.read(source, text_column, uid_column)
    total = None
    if not stdin:
        texts = iter(read := list(texts))
        total = len(read)
    predictor = Predictor.load(
        model, labels, encoder, n_labels=top, n_shortlist=shortlist, mode=mode or "", max_tokens=max_tokens
    )
    if out is None:
        for batch in predictions_file.records(predictor, texts, total=total):
            typer.echo("".join(map(predictions_file.as_line, batch)), nl=False)
        return
    n_there, n_added = predictions_file.write(predictor, texts, out, total)
    typer.echo(f"{out}: {n_there + n_added:,} documents, {n_added:,} of them labelled now")
