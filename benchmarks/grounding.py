"""How long does it take to find the labels of free texts among a million headings, and how much memory?

The labels are headings of FAST with static vectors and the scan of codes; of the texts a third are headings to the
letter, a third headings in capitals, and a third are none: the nearest vector is theirs.
"""

from __future__ import annotations

import time
import tracemalloc
from typing import Annotated

import faiss
import numpy as np
import typer

from ctd.data.readers import fast, mesh
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex


def main(
    n: Annotated[int, typer.Option(min=1000, help="labels")] = 10**6,
    n_texts: Annotated[int, typer.Option(min=3, help="texts to ground")] = 3000,
) -> None:
    """Ground the texts twice, the first time with the tables that this needs, and print what it took."""
    faiss.omp_set_num_threads(1)
    rng, whole, other = np.random.default_rng(0), fast.label_space(), mesh.label_space()
    space = whole.subset(np.sort(rng.permutation(len(whole))[:n]), f"fast-{n}")
    index = LabelIndex.build(space, encoders.load("wordllama"), "fastscan")
    some = [space.texts[label] for label in rng.integers(0, n, 2 * n_texts // 3)]
    texts = [*some[::2], *map(str.upper, some[1::2])]
    texts += [other.texts[label] for label in rng.integers(0, len(other), n_texts - len(texts))]
    for turn in ("first", "again"):
        tracemalloc.start()
        began = time.process_time()
        grounded = index.ground(texts)
        took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        print(f"{turn}: {len(texts):,} texts among {n:,} labels in {took:.2f} s, {peak:,.0f} MiB beside the index")
    counts = {how: sum(each.how == how for each in grounded) for how in ("exact", "normalised", "nearest")}
    print(f"{counts}; scores of all pairs would take {4 * n * len(texts) / 2**20:,.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
