"""How long the label space takes to load, and the label index to build, from an empty cache.

Prints the median seconds of several loads of the 663,973 MeSH headings from Parquet, then embeds and indexes a part of
them (all with --labels 0) and prints headings a second, minutes for all, and peak memory.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctd.data.label_space import LabelSpace
from ctd.data.readers import mesh
from ctd.retrieval import encoders
from ctd.retrieval.index import KINDS, LabelIndex

WHOLE = 663_973


def timed(work: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=50_000, help="headings to index, drawn by seed 0; 0 for all")
    parser.add_argument("--encoder", default="minilm", help="minilm, wordllama, or a model's name or folder")
    parser.add_argument("--kind", default="flat", choices=KINDS, help="kind of FAISS index")
    parser.add_argument("--runs", type=int, default=5, help="loads to take the median of")
    asked = parser.parse_args()

    space = mesh.label_space()
    with tempfile.TemporaryDirectory() as folder:
        space.save(Path(folder) / "labels.parquet")
        loads = [timed(lambda: LabelSpace.load(Path(folder) / "labels.parquet")) for _ in range(asked.runs)]
    print(f"loading {len(space):,} labels: median {statistics.median(loads):.2f} s of {asked.runs} runs")

    if asked.labels:
        chosen = np.random.default_rng(0).permutation(len(space))[: asked.labels]
        space = space.subset(chosen, "part of mesh")
    encoder = encoders.load(asked.encoder)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CTD_CACHE"] = folder
        seconds = timed(lambda: LabelIndex.build(space, encoder, asked.kind))
    rate = len(space) / seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"indexing {len(space):,} labels ({asked.encoder}, {asked.kind}): {seconds:.1f} s, {rate:,.0f} a second,")
    print(f"which makes {WHOLE / rate / 60:.1f} minutes for all {WHOLE:,}; peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
