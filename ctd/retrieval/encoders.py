"""e(.): text to unit vectors, fast, and cached on disk.

Notes: texts are tokenised first and batched by their exact number of tokens, so that no position is padding: headings
are short, and padding would take most of the time. Long lists are split among processes (`ctd.workers`). n texts, d
dimensions.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from copy import deepcopy
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.lib.format import write_array_header_2_0
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from ctd import hardware, workers
from ctd.cache import atomic, cache_dir, digest, file_digest, once, packaged_file
from ctd.keys import Maker
from ctd.retrieval import int8

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ctd.data.label_space import LabelSpace

MAKER = Maker("vectors", __name__, ("encoder", "texts", "versions", "processor"))
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")
SHARD = 32_768
AT_ONCE = SHARD // 16  # texts
BATCH_TOKENS = {"float32": 2_048, "bfloat16": 2_048, "int8": 256}
ON_ACCELERATOR = 65_536  # tokens of a batch: there a small one takes as long
SAFE_COSINE = {"bfloat16": 0.999, "int8": 0.99}
PROBE = ("Calcium/metabolism", "A heading.", "How hard is it to shortlist a document's labels?", "I50.21 " * 40)


class Encoder(Protocol):
    """What `encode` and the label index need of an encoder.

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


class SentenceEncoder:
    """A sentence-transformers model, run without padding, in the fastest dtype that is safe.

    name: "minilm" (all-MiniLM-L6-v2 from the package that carries it, no hub), a hub name or a local folder.
    dtype: "float32", "bfloat16", "int8" (a BERT on the CPU only) or "auto". That takes int8 or else bfloat16 where it
        is fast (`hardware.int8_is_fast`, `hardware.dtype`) and the vectors of four probe texts stay near those in
        float32: within a cosine of 0.99 in int8, of 0.999 in bfloat16.
    device: such as "cuda"; None takes the accelerator where there is one.
    Raises FileNotFoundError for a folder without weights, ValueError for an unknown dtype and for int8 where it cannot
    be.
    """

    def __init__(self, name: str = "minilm", dtype: str = "auto", device: str | None = None) -> None:
        if dtype not in ("auto", *BATCH_TOKENS):
            raise ValueError(f"dtype must be auto, float32, bfloat16 or int8, got {dtype!r}")
        folder = packaged_file("minilm_weights").parent if name == "minilm" else Path(name)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = _open(name, folder, device).float()
        self._tokenizer, self._longest, self._device = model.tokenizer, model.max_seq_length, model.device
        self.name, self.dim = name, int(model.get_embedding_dimension() or 0)
        on_accelerator = device.startswith("cuda")
        self.at_once, self.workers = (SHARD, 1) if on_accelerator else (AT_ONCE, 0)
        self._embed, self.dtype = self._fastest(model) if dtype == "auto" else (_in_dtype(model, dtype), dtype)
        self._batch_tokens = ON_ACCELERATOR if on_accelerator else BATCH_TOKENS[self.dtype]
        self.book_key, self.key = self._keys(folder, _commit(model))

    def _fastest(self, model: SentenceTransformer) -> tuple[nn.Module, str]:
        """The model in the first dtype that is fast on its device and safe, and that dtype."""
        self._embed, self._batch_tokens = model, BATCH_TOKENS["float32"]
        exact = self.vectors(PROBE)
        for dtype in _fast_dtypes(model):
            self._embed = _in_dtype(model, dtype)
            if (exact * self.vectors(PROBE)).sum(1).min() >= SAFE_COSINE[dtype]:
                return self._embed, dtype
        return model, "float32"

    def _keys(self, folder: Path, commit: str | None) -> tuple[str, str]:
        """The key of the weights, and that of all that the vectors depend on: dtype, settings and vocabulary too.

        A model of the hub has no folder; it goes by its name and commit.
        """
        settings = (
            sorted(file for kind in ("*.json", "*.txt") for file in folder.rglob(kind)) if folder.is_dir() else []
        )
        weights = [file_digest(file) for file in _weights(folder)] or [self.name]
        longest = str(self._longest)
        of_settings = [file_digest(file) for file in settings] or [commit or ""]
        return (
            digest(["sentence", *weights, "any dtype", longest]),
            digest(["sentence", *weights, self.dtype, longest, *of_settings]),
        )

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        limits = {"truncation": True, "max_length": self._longest}
        tokens = self._tokenizer(list(texts), **limits, return_attention_mask=False)["input_ids"]
        out = np.empty((len(texts), self.dim), np.float32)
        for rows in _batches([len(ids) for ids in tokens], self._batch_tokens):
            ids = torch.tensor([tokens[row] for row in rows], device=self._device)
            features = self._embed({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
            out[rows] = functional.normalize(features["sentence_embedding"].float(), dim=1).cpu().numpy()
        return out


class StaticEncoder:
    """Averages of WordLlama's static token vectors (256-d): a thousandth of the work of a transformer."""

    def __init__(self) -> None:
        from wordllama import WordLlama

        weights = packaged_file("wordllama_weights")
        self._model = WordLlama.load(cache_dir=weights.parent.parent, disable_download=True)
        self.name, self.dim = "wordllama", int(self._model.embedding.shape[1])
        self.at_once, self.workers = AT_ONCE, 0
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
    """Write the shards that are missing, and return the files of all of them."""
    shards = {folder / f"{start:09d}.npy": texts[start : start + SHARD] for start in range(0, len(texts), SHARD)}
    pieces = {shard: _pieces(part, encoder.at_once) for shard, part in shards.items() if not shard.exists()}
    left = [piece for of_shard in pieces.values() for piece in of_shard]
    done = len(texts) - sum(map(len, left))
    with tqdm(total=len(texts), initial=done, desc=f"{desc} ({encoder.name})", unit=" texts", delay=1) as bar:
        vectors = workers.run(_vectors, left, encoder, workers=encoder.workers, bar=bar, size=len)
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


def _commit(model: Any) -> str | None:
    """The hub's commit of a model that came from there."""
    return getattr(model[0].auto_model.config, "_commit_hash", None)


def _fast_dtypes(model: SentenceTransformer) -> Iterator[str]:
    """The dtypes that are faster than float32 for a model on its device, the fastest first."""
    if hardware.int8_is_fast(model.device.type) and int8.fits(model[0]):
        yield "int8"
    if hardware.dtype(model.device.type) == "bfloat16":
        yield "bfloat16"


def _in_dtype(model: Any, dtype: str) -> nn.Module:
    """The model, or a copy of it in another dtype. Raises ValueError where it cannot be in int8."""
    if dtype == "float32":
        return model
    if dtype == "bfloat16":
        return deepcopy(model).bfloat16()
    if not int8.fits(model[0]) or model.device.type != "cpu":
        kind = f"{type(model[0].auto_model).__name__} on {model.device.type}"
        raise ValueError(f"int8 needs a BERT encoder on cpu, got a {kind}: use float32 or bfloat16")
    return nn.Sequential(int8.Int8Bert(model[0].auto_model), *list(model)[1:])


def _weights(folder: Path) -> list[Path]:
    """The files with a model's weights; none where there is no folder."""
    return sorted([*folder.rglob("*.safetensors"), *folder.rglob("pytorch_model*.bin")])
