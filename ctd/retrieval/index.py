"""Shortlists by nearest neighbour: every label's vector in a FAISS index, and free text grounded to a label.

Notes: vectors have unit norm, so scores are cosines. q queries, k places, d dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from tqdm import tqdm

from ctd.cache import atomic, cache_dir, digest, once
from ctd.data.damaged import named_if_damaged
from ctd.data.label_space import LabelSpace
from ctd.keys import LENGTH, Maker, fingerprint
from ctd.retrieval import encoders, fast_scan, shards
from ctd.retrieval.exclusions import check_search, depth_needed, drop_excluded
from ctd.retrieval.fast_scan import FastScan
from ctd.text import normalise

MAKER = Maker("label indexes", __name__, ("vectors", "kind", "seed", "faiss"))
KINDS = ("flat", "hnsw", "ivfpq", "fastscan")
EXACT_TO = 1_000_000  # labels: more are searched by "fastscan" where the kind is "auto"
QUERIES_AT_ONCE = 128
CACHED_FROM = 256  # queries; fewer are embedded anew each time


@dataclass(frozen=True)
class Grounding:
    """The label that a free text stands for.

    label: its number.
    score: the cosine of text and label; 1.0 where the label has that text.
    how: the rule that found it.
    """

    label: int
    score: float
    how: Literal["exact", "normalised", "nearest"]


@dataclass(frozen=True, eq=False)
class Exact:
    """Exact search as by `faiss.IndexFlatIP`, without a copy of the vectors: all processes map the same file.

    vectors: those of `encoders.encode`, the whole file.
    """

    vectors: Float[np.ndarray, "n d"]

    def __reduce__(self) -> tuple[Any, ...]:  # another process maps the file, too
        file = getattr(self.vectors, "filename", None)
        return (Exact.of_file, (file,)) if file else (Exact, (self.vectors,))

    @classmethod
    def of_file(cls, path: Path) -> Exact:
        """The vectors of a .npy file, mapped."""
        return cls(np.load(path, mmap_mode="r"))

    def search(self, queries: Float[np.ndarray, "q d"], k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k vectors of the largest inner product with each query: products and numbers, best first."""
        return faiss.knn(queries, self.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)

    def reconstruct_batch(self, numbers: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """Some of the vectors."""
        return np.asarray(self.vectors[numbers])


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """A label space and the FAISS index over its vectors.

    space: the labels.
    encoder: what embedded them.
    kind: of index; see `build`.
    index: FAISS's, `Exact` or `FastScan`, over the vectors of all labels, by label number.
    seed: that it was built with.
    saved_key: the key that a loaded index was saved with; "" for one that was built here.
    """

    space: LabelSpace
    encoder: encoders.Encoder
    kind: str
    index: Any
    seed: int = 0
    saved_key: str = ""

    @cached_property
    def key(self) -> str:
        """Digest of all that the index depends on, 32 hex digits; computed at the first use."""
        return self.saved_key or _key(self.space, self.encoder, self.kind, self.seed)

    @classmethod
    def build(cls, space: LabelSpace, encoder: encoders.Encoder | str, kind: str = "flat", seed: int = 0) -> LabelIndex:
        """Embed the labels (once: see `encoders.encode`) and index them.

        space: the labels.
        encoder: embeds them; or the name of one (see `encoders.load`).
        kind: "flat" is exact; "hnsw" is a graph, fast for small k; "ivfpq" takes at most 48 bytes a label; "fastscan"
            scans d / 4 bytes a label and rescores (see `FastScan`): for millions of labels. "auto" is "flat" up to a
            million labels, else "fastscan". All but "flat" are built once and then read from the cache.
        seed: of the k-means behind "ivfpq" and "fastscan".
        Raises ValueError for another kind, or fewer labels than "ivfpq" and "fastscan" can train on (256).
        """
        if kind == "auto":
            kind = "flat" if len(space) <= EXACT_TO else "fastscan"
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        encoder = encoders.load(encoder) if isinstance(encoder, str) else encoder
        vectors = encoders.encode_labels(encoder, space)
        if kind == "flat":
            return cls(space, encoder, kind, Exact(vectors), seed)
        path = cache_dir("indexes") / f"{_key(space, encoder, kind, seed)}.faiss"
        with once(path) as missing:
            if missing:
                index = _hnsw(vectors) if kind == "hnsw" else BUILT_BY_SEED[kind](vectors, space.name, seed)
                with atomic(path) as scratch:
                    faiss.write_index(index, str(scratch))
        index = _mapped(path)
        return cls(space, encoder, kind, FastScan.of(index, vectors) if kind == "fastscan" else index, seed)

    def changed(self, ids: Sequence[str] = (), texts: Sequence[str] = (), removed: Sequence[int] = ()) -> LabelIndex:
        """The index with more labels and without others, in the time that it takes to embed the new ones.

        A label keeps its number: new ones are numbered behind the others, and a removed one is never found again.

        ids: of the labels to add.
        texts: theirs.
        removed: numbers of labels to remove.
        Raises ValueError for an index that is not "fastscan", a label space with a tree, or a number or id that does
        not fit.
        """
        if self.kind != "fastscan" or self.space.parents is not None:
            kind = f"kind '{self.kind}'" if self.kind != "fastscan" else "a tree"
            raise ValueError(f"only a 'fastscan' index without a tree takes changes, got {kind}: build the index anew")
        removed_labels = self.space.check(removed)
        added_texts = [*self.space.texts, *texts]
        space = LabelSpace(self.space.name, [*self.space.ids, *ids], added_texts, len(added_texts))
        vectors = self.embed(texts) if texts else np.empty((0, self.encoder.dim), np.float32)
        key = digest([self.key, fingerprint([*ids]), fingerprint([*texts]), fingerprint(removed_labels)])[:LENGTH]
        return replace(self, space=space, index=self.index.changed(vectors, removed_labels), saved_key=key)

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

        Where an approximate index finds fewer than k, or exclusions leave fewer, rows end in -1 with a score of -inf.

        queries: texts, or unit vectors.
        k: the places to fill.
        exclude: [q, labels]; its pairs are never returned.
        Raises ValueError for k outside 1 .. len(space), or for `exclude` of another shape.
        """
        check_search(queries, k, self.space)
        vectors = queries if isinstance(queries, np.ndarray) else self._embed_queries(queries)
        depth = k if exclude is None else depth_needed(k, exclude, len(vectors), self.space)
        scores = np.empty((len(vectors), depth), np.float32)
        labels = np.empty((len(vectors), depth), np.int64)
        starts = range(0, len(vectors), QUERIES_AT_ONCE)
        for start in tqdm(starts, desc="searching", unit=" batches", delay=2):
            rows = slice(start, start + QUERIES_AT_ONCE)
            scores[rows], labels[rows] = self._nearest(vectors[rows], depth)
        scores[labels < 0] = -np.inf
        return (scores, labels) if exclude is None else drop_excluded(scores, labels, exclude, k)

    def _embed_queries(self, queries: Sequence[str]) -> Float[np.ndarray, "q d"]:
        few = len(queries) < CACHED_FROM
        return self.embed(queries) if few else encoders.encode(self.encoder, queries, "embedding queries")

    def _nearest(self, vectors: Float[np.ndarray, "q d"], k: int) -> tuple[np.ndarray, np.ndarray]:
        queries, index = np.ascontiguousarray(vectors, np.float32), self.index
        if self.kind == "hnsw":
            return index.search(queries, k, params=_parameters("HNSW", efSearch=max(64, 2 * k)))
        if self.kind == "ivfpq":
            lists = faiss.extract_index_ivf(index).nlist
            return index.search(queries, k, params=_parameters("IVF", nprobe=max(8, lists // 32)))
        return index.search(queries, k)

    def ground(self, texts: Sequence[str]) -> list[Grounding]:
        """The label of each free text: the one with that text, else with the same normalised text, else the nearest.

        `ctd.text.normalise` says what normalising is. Of labels that share a text the first wins.

        texts: the free texts.
        Raises ValueError for an empty text.
        """
        if (empty := next((row for row, text in enumerate(texts) if not text.strip()), None)) is not None:
            raise ValueError(f"text {empty} of {len(texts)} is empty: there is nothing to ground")
        grounded: dict[int, Grounding] = {}
        for row, text in enumerate(texts):
            if (label := self._by_text.get(text)) is not None:
                grounded[row] = Grounding(label, 1.0, "exact")
            elif (label := self._by_normal_text.get(normalise(text))) is not None:
                grounded[row] = Grounding(label, 1.0, "normalised")
        if others := [row for row in range(len(texts)) if row not in grounded]:
            scores, labels = self.search([texts[row] for row in others], 1)
            for row, score, label in zip(others, scores[:, 0], labels[:, 0], strict=True):
                grounded[row] = Grounding(int(label), float(score), "nearest")
        return [grounded[row] for row in range(len(texts))]

    @cached_property
    def _by_text(self) -> dict[str, int]:
        return {self.space.texts[label]: label for label in self._reversed}

    @cached_property
    def _by_normal_text(self) -> dict[str, int]:
        return {normalise(self.space.texts[label]): label for label in self._reversed}

    @property
    def _reversed(self) -> Iterator[int]:
        """All labels but removed ones, last first."""
        removed = set(self.index.removed.tolist()) if isinstance(self.index, FastScan) else set()
        return (label for label in reversed(range(len(self.space))) if label not in removed)

    def save(self, folder: Path) -> None:
        """Write the index, the label space and the identity of the encoder to a folder, whole or not at all."""
        with atomic(folder) as scratch:
            scratch.mkdir()
            index = self.index
            if isinstance(index, Exact):
                index = _filled(faiss.IndexFlatIP(index.vectors.shape[1]), index.vectors)
            elif isinstance(index, FastScan):
                index.save_vectors(scratch)
                index = index.codes
            faiss.write_index(index, str(scratch / "index.faiss"))
            self.space.save(scratch / "labels.parquet")
            identity = {
                "encoder": self.encoder.name,
                "encoder_key": self.encoder.key,
                "kind": self.kind,
                "seed": self.seed,
                "key": self.key,
            }
            (scratch / "index.json").write_text(json.dumps(identity, indent=2))

    @classmethod
    def load(cls, folder: Path, encoder: encoders.Encoder | None = None) -> LabelIndex:
        """Read what `save` wrote, memory-mapped.

        folder: that `save` wrote.
        encoder: the one that the index was built with; None loads it by its saved name.
        Raises FileNotFoundError when the folder holds no index, ValueError when the index has another encoder or was
        saved without its key.
        """
        if not (folder / "index.json").is_file():
            raise FileNotFoundError(f"{folder} holds no label index; write one with LabelIndex.save")
        with named_if_damaged(folder / "index.json"):
            identity = dict(json.loads((folder / "index.json").read_text(encoding="utf-8")))
        if "key" not in identity:
            raise ValueError(f"{folder / 'index.json'} lacks the index's key: build the index anew and save it")
        encoder = encoder or encoders.load(identity["encoder"])
        if encoder.key != identity["encoder_key"]:
            raise ValueError(
                f"{folder} was built with encoder '{identity['encoder']}' ({identity['encoder_key'][:8]}), got "
                f"'{encoder.name}' ({encoder.key[:8]}): weights or dtype differ; build the index anew"
            )
        space = LabelSpace.load(folder / "labels.parquet")
        index: Any = _mapped(folder / "index.faiss")
        if identity["kind"] == "fastscan":
            index = FastScan.load(index, folder)
        return cls(space, encoder, identity["kind"], index, identity["seed"], identity["key"])


def _key(space: LabelSpace, encoder: encoders.Encoder, kind: str, seed: int) -> str:
    return MAKER.key(vectors=encoders.labels_key(encoder, space), kind=kind, seed=seed, faiss=faiss.__version__)


def _parameters(kind: str, **values: int) -> faiss.SearchParameters:
    return getattr(faiss, f"SearchParameters{kind}")(**values)


def _filled(index: faiss.Index, vectors: Float[np.ndarray, "n d"], desc: str = "indexing") -> faiss.Index:
    for start in tqdm(range(0, len(vectors), shards.SIZE), desc=desc, unit=" shards", delay=2):
        index.add(np.ascontiguousarray(vectors[start : start + shards.SIZE]))
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


BUILT_BY_SEED = {"ivfpq": _ivfpq, "fastscan": fast_scan.coded}


def _mapped(path: Path) -> faiss.Index:
    with named_if_damaged(path):
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
