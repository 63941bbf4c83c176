"""e(.): text to unit vectors, fast, and cached on disk.

Notes: texts are tokenised first and batched by their exact number of tokens, so that no position is padding: headings
are short, and padding would take most of the time. n texts, d dimensions.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.lib.format import write_array_header_2_0
from tqdm import tqdm

from ctd import hardware
from ctd.cache import atomic, cache_dir, digest, file_digest, once, packaged_file
from ctd.keys import Maker

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ctd.data.label_space import LabelSpace

MAKER = Maker("vectors", __name__, ("encoder", "texts", "versions", "processor"))
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")
SHARD = 32_768
AT_ONCE = SHARD // 16  # texts
BATCH_TOKENS = 2_048
ON_ACCELERATOR = 65_536  # tokens of a batch: there a small one takes as long
SAFE_COSINE = 0.999
PROBE = ("Calcium/metabolism", "A heading.", "How hard is it to shortlist a document's labels?", "I50.21 " * 40)


class Encoder(Protocol):
    """What `encode` and the label index need of an encoder.

    name: its name in tables.
    key: a digest of everything that its vectors depend on.
    book_key: a digest of its weights, whatever the dtype.
    dim: d.
    at_once: how many texts to pass together, so that those of one length can share a batch.
    """

    name: str
    key: str
    book_key: str
    dim: int
    at_once: int

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Unit-norm float32 vectors, one a text, without cache and progress bar."""
        ...


class SentenceEncoder:
    """A sentence-transformers model, run without padding, in bfloat16 where that is fast and safe.

    name: "minilm" (all-MiniLM-L6-v2 from the package that carries it, no hub), a hub name or a local folder.
    dtype: "float32", "bfloat16" or "auto", which takes bfloat16 where that is fast (`hardware.dtype`) and the vectors
        of four probe texts stay within a cosine of 0.999 of those in float32.
    device: such as "cuda"; None takes the accelerator where there is one.
    Raises FileNotFoundError for a folder without weights, ValueError for an unknown dtype.
    """

    def __init__(self, name: str = "minilm", dtype: str = "auto", device: str | None = None) -> None:
        if dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"dtype must be auto, float32 or bfloat16, got {dtype!r}")
        folder = packaged_file("minilm_weights").parent if name == "minilm" else Path(name)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = _open(name, folder, device)
        on_accelerator = device.startswith("cuda")
        self.at_once, self._batch_tokens = (SHARD, ON_ACCELERATOR) if on_accelerator else (AT_ONCE, BATCH_TOKENS)
        if dtype == "auto":
            dtype = "bfloat16" if hardware.dtype(device) == "bfloat16" and self._safe_in_bfloat16() else "float32"
        self._model.to(getattr(torch, dtype))
        self.name, self.dtype = name, dtype
        self.dim = int(self._model.get_embedding_dimension() or 0)
        self.book_key, self.key = self._keys(folder)

    def _keys(self, folder: Path) -> tuple[str, str]:
        """The key of the weights, and that of all that the vectors depend on: dtype, settings and vocabulary too.

        A model of the hub has no folder; it goes by its name and commit.
        """
        settings = (
            sorted(file for kind in ("*.json", "*.txt") for file in folder.rglob(kind)) if folder.is_dir() else []
        )
        commit = getattr(self._model[0].auto_model.config, "_commit_hash", None) or ""  # type: ignore[union-attr]
        weights = [file_digest(file) for file in _weights(folder)] or [self.name]
        longest = str(self._model.max_seq_length)
        return (
            digest(["sentence", *weights, "any dtype", longest]),
            digest(
                ["sentence", *weights, self.dtype, longest, *([file_digest(file) for file in settings] or [commit])]
            ),
        )

    def _safe_in_bfloat16(self) -> bool:
        exact = self._model.float() and self.vectors(PROBE)
        self._model.to(torch.bfloat16)
        return bool((exact * self.vectors(PROBE)).sum(1).min() >= SAFE_COSINE)

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        tokens = self._model.tokenizer(
            list(texts), truncation=True, max_length=self._model.max_seq_length, return_attention_mask=False
        )["input_ids"]
        out = np.empty((len(texts), int(self._model.get_embedding_dimension() or 0)), np.float32)
        for rows in _batches([len(ids) for ids in tokens], self._batch_tokens):
            ids = torch.tensor([tokens[row] for row in rows], device=self._model.device)
            features = self._model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
            out[rows] = torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=1).cpu().numpy()
        return out


class StaticEncoder:
    """Averages of WordLlama's static token vectors (256-d): a thousandth of the work of a transformer."""

    def __init__(self) -> None:
        from wordllama import WordLlama

        weights = packaged_file("wordllama_weights")
        self._model = WordLlama.load(cache_dir=weights.parent.parent, disable_download=True)
        self.name, self.dim, self.at_once = "wordllama", int(self._model.embedding.shape[1]), AT_ONCE
        self.key = self.book_key = digest(["static", file_digest(weights), version("wordllama")])

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        raw = np.asarray(self._model.embed(list(texts)), np.float32)
        norm = np.linalg.norm(raw, axis=1, keepdims=True)
        return raw / np.maximum(norm, 1e-12)


def load(name: str = "minilm", dtype: str = "auto", device: str | None = None) -> Encoder:
    """An encoder by its name.

    name: "minilm", "wordllama", or the name or folder of any sentence-transformers model.
    dtype: see `SentenceEncoder`.
    device: see `SentenceEncoder`.
    """
    return StaticEncoder() if name == "wordllama" else SentenceEncoder(name, dtype, device)


def encode(encoder: Encoder, texts: Sequence[str], desc: str = "encoding") -> Float[np.ndarray, "n d"]:
    """Unit vectors of the texts, memory-mapped from the cache; the first call makes them.

    Work is saved in shards of 32,768 texts: after a run was killed, the next goes on behind its last whole shard.

    encoder: embeds the texts.
    texts: what to embed.
    desc: the words beside the progress bar.
    Raises ValueError for an empty list or an empty text; OSError with one line when the disk is full (whole shards
    stay, a half-written file does not).
    """
    if not texts:
        raise ValueError("there are no texts to encode")
    if (empty := next((row for row, text in enumerate(texts) if not text.strip()), None)) is not None:
        raise ValueError(f"text {empty} of {len(texts)} is empty: an encoder needs something to read")
    path = cache_dir("vectors") / f"{vectors_key(encoder, texts)}.npy"
    with once(path) as missing:
        if missing:
            _encode(encoder, texts, path, desc)
    return np.load(path, mmap_mode="r")


def vectors_key(encoder: Encoder, texts: Sequence[str]) -> str:
    """The key of the file that `encode` makes.

    encoder: embeds the texts.
    texts: in their order.
    """
    versions = [version(library).partition("+")[0] for library in LIBRARIES]
    return MAKER.key(encoder=encoder, texts=list(texts), versions=versions, processor=platform.machine())


def encode_labels(encoder: Encoder, space: LabelSpace) -> Float[np.ndarray, "labels d"]:
    """Unit vectors of all labels of a label space, as `encode` gives them."""
    return encode(encoder, space.texts[: len(space)], f"embedding {len(space):,} labels")


def _encode(encoder: Encoder, texts: Sequence[str], path: Path, desc: str) -> None:
    """Write the vectors as one file, by way of shards in a folder beside it."""
    folder = path.with_suffix(".shards")
    folder.mkdir(exist_ok=True)
    shards = _encode_shards(encoder, texts, folder, desc)
    with atomic(path) as scratch, open(scratch, "wb") as stream:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (len(texts), encoder.dim)}
        write_array_header_2_0(stream, shape)
        for shard in shards:
            stream.write(np.load(shard).tobytes())
    for shard in shards:
        shard.unlink()
    folder.rmdir()


def _encode_shards(encoder: Encoder, texts: Sequence[str], folder: Path, desc: str) -> list[Path]:
    shards = [folder / f"{start:09d}.npy" for start in range(0, len(texts), SHARD)]
    with tqdm(total=len(texts), desc=f"{desc} ({encoder.name})", unit=" texts", smoothing=0.05, delay=1) as bar:
        for start, shard in zip(range(0, len(texts), SHARD), shards, strict=True):
            part = texts[start : start + SHARD]
            if not shard.exists():
                vectors = np.empty((len(part), encoder.dim), np.float32)
                for first in range(0, len(part), encoder.at_once):
                    together = part[first : first + encoder.at_once]
                    vectors[first : first + len(together)] = encoder.vectors(together)
                    bar.update(len(together))
                with atomic(shard) as scratch, open(scratch, "wb") as stream:
                    np.save(stream, vectors)
            else:
                bar.update(len(part))
    return shards


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[np.ndarray]:
    """Rows of equal token count, at most batch_tokens tokens a batch (or a single row)."""
    count = np.asarray(lengths)
    order = np.argsort(count, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(count[order])) + 1):
        size = max(1, batch_tokens // max(1, int(count[rows[0]])))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _open(name: str, folder: Path, device: str) -> SentenceTransformer:
    """The model in a folder or, where there is no folder, the hub's of that name."""
    from sentence_transformers import SentenceTransformer

    if folder.is_dir() and not _weights(folder):
        raise FileNotFoundError(
            f"{folder} has no model weights (*.safetensors or *.bin): give a folder written by "
            "SentenceTransformer.save, or a model's name"
        )
    try:
        return SentenceTransformer(str(folder) if folder.is_dir() else name, device=device).eval()
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(
            f"no sentence-transformers model {name!r}: not a folder here, and the hub gave none ({reason})"
        ) from error


def _weights(folder: Path) -> list[Path]:
    """The files with a model's weights; none where there is no folder."""
    return sorted([*folder.rglob("*.safetensors"), *folder.rglob("pytorch_model*.bin")])
