"""Vectors of a long list of texts, made by processes side by side and saved shard by shard.

Notes: after a run was killed, the next one goes on with the shards that are missing. d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float
from numpy.lib.format import write_array_header_2_0
from tqdm.auto import tqdm

from ctd import workers
from ctd.cache import atomic

SIZE = 32_768  # texts


class Encoder(Protocol):
    """What vectors and label indexes need of an encoder.

    name: its name in tables.
    key: a digest of everything that its vectors depend on.
    book_key: a digest of its weights, whatever the dtype.
    dim: d.
    at_once: how many texts to pass together, so that those of one length can share a batch.
    workers: how many processes may embed at the same time; 0 for one on each core.
    """

    name: str
    key: str
    book_key: str
    dim: int
    at_once: int
    workers: int

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Unit-norm float32 vectors, one a text, without cache and progress bar."""
        ...

    def rough(self) -> Encoder:
        """What embeds very many texts: itself, or an encoder that is faster and whose vectors are near."""
        ...


def write(path: Path, encoder: Encoder, texts: Sequence[str], desc: str) -> None:
    """Write the vectors of texts as one file.

    path: of the file. The shards lie in a folder beside it until it is whole.
    encoder: embeds the texts.
    texts: what to embed.
    desc: the words beside the progress bar.
    """
    folder = path.with_suffix(".shards")
    folder.mkdir(exist_ok=True)
    shards = _write_shards(folder, encoder, texts, desc)
    with atomic(path) as scratch, open(scratch, "wb") as stream:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (len(texts), encoder.dim)}
        write_array_header_2_0(stream, shape)
        for shard in shards:
            stream.write(np.load(shard).tobytes())
    for shard in shards:
        shard.unlink()
    folder.rmdir()


def _write_shards(folder: Path, encoder: Encoder, texts: Sequence[str], desc: str) -> list[Path]:
    """Write the shards that are missing, and return the files of all of them."""
    shards = {folder / f"{start:09d}.npy": texts[start : start + SIZE] for start in range(0, len(texts), SIZE)}
    pieces = {shard: _pieces(part, encoder.at_once) for shard, part in shards.items() if not shard.exists()}
    remaining = [piece for of_shard in pieces.values() for piece in of_shard]
    done = len(texts) - sum(map(len, remaining))
    with tqdm(total=len(texts), initial=done, desc=f"{desc} ({encoder.name})", unit=" texts", delay=1) as bar:
        vectors = workers.run(_vectors, remaining, encoder, workers=encoder.workers, bar=bar, size=len)
        for shard, of_shard in pieces.items():
            whole = np.concatenate([*islice(vectors, len(of_shard))])
            with atomic(shard) as scratch, open(scratch, "wb") as stream:
                np.save(stream, whole)
    return [*shards]


def _pieces(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _vectors(encoder: Encoder, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """For `workers.run`."""
    return encoder.vectors(texts)
