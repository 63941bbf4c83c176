"""How fast are labels found? FAISS's exact search beside the scan of codes, over more and more labels.

The labels are FAST's headings, drawn at random, embedded in 256 dimensions (a minute on two cores, once); the queries
are 32 of MeSH's headings, each with its 100 nearest. Of more labels than FAST has only the scan is timed, over made-up
vectors: the exact ones of 10^7 labels would take 10 GB.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
import typer

from ctd.book import benchmarks, search_costs
from ctd.data.readers import fast, mesh
from ctd.retrieval import encoders, fast_scan
from ctd.retrieval.fast_scan import FastScan

DIM, K, QUERIES, BLOCK = 256, 100, 32, 65_536


def scan_alone(n: int, queries: np.ndarray, runs: int) -> list[benchmarks.Row]:
    """The scan of so many labels that their vectors have no room: a file with a hole in their place."""
    block = search_costs.unit_vectors(BLOCK, DIM, 1)
    codes = fast_scan.coded(block, "made up", 0)
    while codes.ntotal < n:
        codes.add(block[: n - codes.ntotal])
    with tempfile.TemporaryDirectory() as folder:
        vectors = np.memmap(Path(folder) / "vectors", np.float32, "w+", shape=(n, DIM))
        scan = FastScan.of(codes, vectors)
        ways = {search_costs.SCAN: lambda: scan.search(queries, K)}
        return benchmarks.compare(benchmarks.Work("search", "labels", n), ways, search_costs.EXACT, runs)


def main(
    runs: Annotated[int, typer.Option(min=1, help="turns; medians are kept")] = benchmarks.RUNS,
    out: Annotated[Path, typer.Option(help="folder for search.json")] = benchmarks.FOLDER,
    largest: Annotated[int, typer.Option(min=1000, help="labels at most; above a million the scan alone")] = 10**7,
) -> None:
    """Time both, and keep the rows."""
    faiss.omp_set_num_threads(1)
    encoder, space, mesh_space = encoders.load("wordllama"), fast.label_space(), mesh.label_space()
    vectors = encoders.encode_labels(encoder, space)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(space))
    queries = encoder.vectors([mesh_space.texts[label] for label in rng.permutation(len(mesh_space))[:QUERIES]])
    rows: list[benchmarks.Row] = []
    for n in (10**3, 10**4, 10**5, 10**6, len(space)):
        if n <= largest:
            some = vectors[np.sort(order[:n])] if n < len(space) else vectors
            rows += search_costs.beside_exact(some, queries, K, runs)
    if largest >= 10**7:
        rows += scan_alone(10**7, queries, runs)
    benchmarks.keep("search", rows, out)


if __name__ == "__main__":
    typer.run(main)
