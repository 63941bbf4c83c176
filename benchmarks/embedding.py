"""How fast are texts embedded? sentence-transformers' own `encode` beside ours, one thread each, the same model."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from ctd.book import benchmarks
from ctd.cache import packaged_file
from ctd.data.readers import mesh
from ctd.retrieval import encoders

PEER = "sentence-transformers encode"


def main(
    runs: Annotated[int, typer.Option(min=1, help="turns; medians are kept")] = benchmarks.RUNS,
    out: Annotated[Path, typer.Option(help="folder for embedding.json")] = benchmarks.FOLDER,
    largest: Annotated[int, typer.Option(min=16, help="headings at most")] = 1024,
) -> None:
    """Time each, and keep the rows."""
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    folder = packaged_file("minilm_weights").parent
    sentence_transformer = SentenceTransformer(str(folder), device="cpu")
    parameters = sum(
        weight.numel() for name, weight in sentence_transformer.named_parameters() if "embeddings" not in name
    )
    exact, rough, static = (
        encoders.load("minilm", "float32"),
        encoders.load("minilm").rough(),
        encoders.load("wordllama"),
    )
    texts = mesh.label_space().texts
    rows = []
    for n in (size for size in (64, 256, 1024, 4096) if size <= largest):
        some = [texts[row] for row in np.random.default_rng(0).permutation(len(texts))[:n]]
        tokens = sum(map(len, sentence_transformer.tokenizer(some)["input_ids"]))
        ways = {
            PEER: lambda some=some: sentence_transformer.encode(
                some, normalize_embeddings=True, show_progress_bar=False
            ),
            "ctd, float32": lambda some=some: exact.vectors(some),
            "ctd, labels": lambda some=some: rough.vectors(some),
            "ctd, static": lambda some=some: static.vectors(some),
        }
        work = benchmarks.Work("embedding", "headings", n, 2.0 * parameters * tokens)
        rows += benchmarks.compare(work, ways, PEER, runs)
    benchmarks.keep("embedding", rows, out)


if __name__ == "__main__":
    typer.run(main)
