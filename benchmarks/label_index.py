"""How long the label space takes to load, and the label index to build, from an empty cache.

Prints the median seconds of several loads of the 663,973 MeSH headings from Parquet. Then embeds some headings by turns
in one process with all threads in float32, and as `encoders.encode_labels` does, on the machine as it is and beside one
busy core. Prints headings a second, minutes for all headings, and the ratio of the medians. Last embeds and indexes a
part of them (all with --labels 0) and prints the same, and peak memory.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from compute import busy_core

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


def compare(texts: Sequence[str], name: str, turns: int) -> None:
    """Print headings a second of one process in float32 and of `encoders.encode_labels`, in turns."""
    plain, encoder = encoders.load(name, "float32"), encoders.load(name).rough()
    pieces = [texts[start : start + plain.at_once] for start in range(0, len(texts), plain.at_once)]

    def encode() -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CTD_CACHE"] = folder
            encoders.encode(encoder, texts)

    ways = {"one process, float32": lambda: [plain.vectors(piece) for piece in pieces], "encode_labels": encode}
    encode()  # starts the processes
    seconds = [[timed(work) for work in ways.values()] for _ in range(turns)]
    medians = [statistics.median(of_way) for of_way in zip(*seconds, strict=True)]
    for way, taken in zip(ways, medians, strict=True):
        rate = len(texts) / taken
        print(f"  {way}: {rate:,.0f} headings a second, {WHOLE / rate / 60:.1f} minutes for all")
    print(f"  ratio {medians[0] / medians[1]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=50_000, help="headings to index, drawn by seed 0; 0 for all")
    parser.add_argument("--compare", type=int, default=16_384, help="headings to embed in both ways; 0 for none")
    parser.add_argument("--encoder", default="minilm", help="minilm, wordllama, or a model's name or folder")
    parser.add_argument("--kind", default="flat", choices=KINDS, help="kind of FAISS index")
    parser.add_argument("--runs", type=int, default=3, help="loads and turns to take the median of")
    options = parser.parse_args()

    space = mesh.label_space()
    with tempfile.TemporaryDirectory() as folder:
        space.save(Path(folder) / "labels.parquet")
        loads = [timed(lambda: LabelSpace.load(Path(folder) / "labels.parquet")) for _ in range(options.runs)]
    print(f"loading {len(space):,} labels: median {statistics.median(loads):.2f} s of {options.runs} runs")

    order = np.random.default_rng(0).permutation(len(space))
    if options.compare:
        texts = [space.texts[label] for label in np.sort(order[: options.compare])]
        print(f"embedding {len(texts):,} labels on the machine as it is:")
        compare(texts, options.encoder, options.runs)
        print("beside one busy core:")
        with busy_core():
            compare(texts, options.encoder, options.runs)

    if options.labels:
        space = space.subset(order[: options.labels], "part of mesh")
    encoder = encoders.load(options.encoder)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CTD_CACHE"] = folder
        seconds = timed(lambda: LabelIndex.build(space, encoder, options.kind))
    rate = len(space) / seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"indexing {len(space):,} labels ({options.encoder}, {options.kind}): {seconds:.1f} s, {rate:,.0f} a second,")
    print(f"which makes {WHOLE / rate / 60:.1f} minutes for all {WHOLE:,}; peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
