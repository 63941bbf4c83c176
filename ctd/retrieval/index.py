"""Shortlists by nearest neighbour: every label's vector in a FAISS index, and free text grounded to a label.

Notes: scores are cosines, for vectors have unit norm. q queries, k places, d dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from tqdm import tqdm

from ctd.cache import atomic, cache_dir, once
from ctd.data.label_space import LabelSpace
from ctd.keys import Maker
from ctd.retrieval import encoders
from ctd.text import normalise

MAKER = Maker("label indexes", __name__, ("vectors", "kind", "seed", "faiss"))
KINDS = ("flat", "hnsw", "ivfpq")
QUERIES_AT_ONCE = 128
CACHED_FROM = 256  # queries; fewer are embedded anew each time


@dataclass(frozen=True)
class Grounding:
    """Where a free text landed: label number, cosine (1.0 when the text is the label's), and by which rule."""

    label: int
    score: float
    how: Literal["exact", "normalised", "nearest"]


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """A label space, the encoder that embedded it, and the FAISS index over its vectors."""

    space: LabelSpace
    encoder: encoders.Encoder
    kind: str
    index: faiss.Index

    @classmethod
    def build(cls, space: LabelSpace, encoder: encoders.Encoder, kind: str = "flat", seed: int = 0) -> LabelIndex:
        """Embed the labels (once: see `encoders.encode`) and index them.

        kind: "flat" is exact; "hnsw" is a graph, fast for small k; "ivfpq" takes at most 48 bytes a label. The last
        two are built once and then memory-mapped from the cache. seed: of the k-means behind "ivfpq".
        Raises ValueError for another kind, or fewer labels than "ivfpq" can train on (256).
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        vectors = encoders.encode_labels(encoder, space)
        if kind == "flat":
            return cls(space, encoder, kind, _filled(faiss.IndexFlatIP(encoder.dim), vectors))
        key = MAKER.key(
            vectors=encoders.vectors_key(encoder, space.texts[: len(space)]),
            kind=kind,
            seed=seed,
            faiss=faiss.__version__,
        )
        path = cache_dir("indexes") / f"{key}.faiss"
        with once(path) as missing:
            if missing:
                made = _hnsw(vectors) if kind == "hnsw" else _ivfpq(vectors, space.name, seed)
                with atomic(path) as scratch:
                    faiss.write_index(made, str(scratch))
        return cls(space, encoder, kind, _mapped(path))

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """The texts in the index's own vector space."""
        return self.encoder.vectors(texts)

    def vectors(self, labels: Int[np.ndarray, " labels"]) -> Float[np.ndarray, "labels d"]:
        """The stored vectors of some labels (for "ivfpq" what its codes decode to)."""
        return self.index.reconstruct_batch(self.space.check(labels).astype(np.int64))

    def search(
        self,
        queries: Sequence[str] | Float[np.ndarray, "q d"],
        k: int,
        exclude: csr_matrix | None = None,
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """The k nearest labels of each query: cosines and label numbers, best first.

        queries: texts, or unit vectors. exclude: [q, labels]; its pairs are never returned. Where an approximate
        index finds fewer than k, or exclusions leave fewer, rows end in -1 with a score of -inf.
        Raises ValueError for k outside 1 .. len(space), or a number of rows of `exclude` other than q.
        """
        check_k(k, self.space)
        vectors = queries if isinstance(queries, np.ndarray) else self._embed_queries(queries)
        wanted = k if exclude is None else deepest(k, exclude, len(vectors), self.space)
        found = [
            self._nearest(vectors[start : start + QUERIES_AT_ONCE], wanted)
            for start in tqdm(
                range(0, len(vectors), QUERIES_AT_ONCE),
                desc="searching",
                unit=" batches",
                disable=len(vectors) < 512,
            )
        ]
        scores = np.concatenate([score for score, _ in found]) if found else np.empty((0, wanted), np.float32)
        labels = np.concatenate([label for _, label in found]) if found else np.empty((0, wanted), np.int64)
        scores[labels < 0] = -np.inf
        return (scores, labels) if exclude is None else drop_excluded(scores, labels, exclude, k)

    def _embed_queries(self, queries: Sequence[str]) -> Float[np.ndarray, "q d"]:
        few = len(queries) < CACHED_FROM
        return self.embed(queries) if few else encoders.encode(self.encoder, queries, "embedding queries")

    def _nearest(self, vectors: Float[np.ndarray, "q d"], k: int) -> tuple[np.ndarray, np.ndarray]:
        queries = np.ascontiguousarray(vectors, np.float32)
        if self.kind == "hnsw":
            return self.index.search(queries, k, params=_parameters("HNSW", efSearch=max(64, 2 * k)))
        if self.kind == "ivfpq":
            lists = faiss.extract_index_ivf(self.index).nlist
            return self.index.search(queries, k, params=_parameters("IVF", nprobe=max(8, lists // 32)))
        return self.index.search(queries, k)

    def ground(self, texts: Sequence[str]) -> list[Grounding]:
        """Free text to label: the same text, else the same after normalising, else the nearest vector.

        Normalising folds case, Unicode forms, punctuation and white space. Of labels that share a text the first
        wins. Raises ValueError for an empty text.
        """
        if (empty := next((row for row, text in enumerate(texts) if not text.strip()), None)) is not None:
            raise ValueError(f"text {empty} of {len(texts)} is empty: there is nothing to ground")
        grounded: dict[int, Grounding] = {}
        for row, text in enumerate(texts):
            if (label := self._by_text.get(text)) is not None:
                grounded[row] = Grounding(label, 1.0, "exact")
            elif (label := self._by_normal_text.get(normalise(text))) is not None:
                grounded[row] = Grounding(label, 1.0, "normalised")
        left = [row for row in range(len(texts)) if row not in grounded]
        if left:
            scores, labels = self.search([texts[row] for row in left], 1)
            for row, score, label in zip(left, scores[:, 0], labels[:, 0], strict=True):
                grounded[row] = Grounding(int(label), float(score), "nearest")
        return [grounded[row] for row in range(len(texts))]

    @cached_property
    def _by_text(self) -> dict[str, int]:
        return {self.space.texts[label]: label for label in reversed(range(len(self.space)))}

    @cached_property
    def _by_normal_text(self) -> dict[str, int]:
        return {normalise(self.space.texts[label]): label for label in reversed(range(len(self.space)))}

    def save(self, folder: Path) -> None:
        """Write index, label space and encoder identity to a folder, whole or not at all."""
        with atomic(folder) as scratch:
            scratch.mkdir()
            faiss.write_index(self.index, str(scratch / "index.faiss"))
            self.space.save(scratch / "labels.parquet")
            identity = {"encoder": self.encoder.name, "encoder_key": self.encoder.key, "kind": self.kind}
            (scratch / "index.json").write_text(json.dumps(identity, indent=2))

    @classmethod
    def load(cls, folder: Path, encoder: encoders.Encoder | None = None) -> LabelIndex:
        """Read what `save` wrote, memory-mapped. encoder: loaded by its saved name when not given.

        Raises FileNotFoundError when the folder holds no index, ValueError when the encoder is another one than the
        index was built with.
        """
        if not (folder / "index.json").is_file():
            raise FileNotFoundError(f"{folder} holds no label index; write one with LabelIndex.save")
        identity = json.loads((folder / "index.json").read_text())
        encoder = encoder or encoders.load(identity["encoder"])
        if encoder.key != identity["encoder_key"]:
            raise ValueError(
                f"{folder} was built with encoder '{identity['encoder']}' ({identity['encoder_key'][:8]}), got "
                f"'{encoder.name}' ({encoder.key[:8]}): weights or dtype differ; build the index anew"
            )
        space = LabelSpace.load(folder / "labels.parquet")
        return cls(space, encoder, identity["kind"], _mapped(folder / "index.faiss"))


def check_k(k: int, space: LabelSpace) -> None:
    """Raises ValueError when a shortlist of k labels cannot be had from the label space."""
    if not 1 <= k <= len(space):
        raise ValueError(f"k must be between 1 and {len(space)} (labels in '{space.name}'), got {k}")


def deepest(k: int, exclude: csr_matrix, queries: int, space: LabelSpace) -> int:
    """How many labels to fetch so that k are left when a row's exclusions are dropped."""
    if exclude.shape != (queries, len(space)):
        raise ValueError(f"exclude must have shape ({queries}, {len(space)}), got {exclude.shape}")
    return int(min(len(space), k + np.diff(exclude.indptr).max(initial=0)))


def drop_excluded(
    scores: Float[np.ndarray, "q deep"], labels: Int[np.ndarray, "q deep"], exclude: csr_matrix, k: int
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """The first k of each row that are not excluded; -1 and -inf where fewer are left."""
    kept_scores = np.full((len(labels), k), -np.inf, np.float32)
    kept_labels = np.full((len(labels), k), -1, np.int64)
    for row in range(len(labels)):
        barred = exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]
        keep = np.flatnonzero(~np.isin(labels[row], barred))[:k]
        kept_scores[row, : len(keep)] = scores[row, keep]
        kept_labels[row, : len(keep)] = labels[row, keep]
    return kept_scores, kept_labels


def _parameters(kind: str, **values: int) -> faiss.SearchParameters:
    return getattr(faiss, f"SearchParameters{kind}")(**values)


def _filled(index: faiss.Index, vectors: Float[np.ndarray, "n d"], desc: str = "indexing") -> faiss.Index:
    for start in tqdm(range(0, len(vectors), encoders.SHARD), desc=desc, unit=" shards", delay=2):
        index.add(np.ascontiguousarray(vectors[start : start + encoders.SHARD]))
    return index


def _hnsw(vectors: Float[np.ndarray, "n d"]) -> faiss.Index:
    return _filled(faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT), vectors, "linking (hnsw)")


def _ivfpq(vectors: Float[np.ndarray, "n d"], name: str, seed: int) -> faiss.Index:
    n, d = vectors.shape
    if n < 256:
        raise ValueError(f"kind 'ivfpq' trains on at least 256 labels; '{name}' has {n}: use 'flat'")
    lists = int(np.clip(2 ** round(np.log2(4 * np.sqrt(n))), 1, n // 39 + 1))
    parts = max(m for m in range(1, 49) if d % m == 0)
    coarse = faiss.IndexFlatIP(d)
    index = faiss.IndexIVFPQ(coarse, d, lists, parts, 8, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = index.pq.cp.seed = seed
    sample = np.random.default_rng(seed).permutation(n)[: 64 * max(lists, 256)]
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    _filled(index, vectors, "quantising (ivfpq)")
    index.make_direct_map()
    return index


def _mapped(path: Path) -> faiss.Index:
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
