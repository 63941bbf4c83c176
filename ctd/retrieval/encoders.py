"""e(.): text to unit vectors, fast, and cached on disk.

Notes: texts are tokenised first and batched by their exact number of tokens, so that no position is padding: headings
are short, and padding would take most of the time. Long lists are split among processes (`ctd.workers`). n texts, d
dimensions.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ctd import hardware
from ctd.cache import cache_dir, digest, file_digest, once, packaged_file
from ctd.data.damaged import named_if_damaged
from ctd.keys import Maker
from ctd.retrieval import int8, shards
from ctd.retrieval.shards import Encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

from ctd.data.label_space import LabelSpace

MAKER = Maker("vectors", __name__, ("encoder", "texts", "versions", "processor"))
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")
AT_ONCE = shards.SIZE // 16  # texts
BATCH_TOKENS = {"float32": 2_048, "bfloat16": 2_048, "int8": 256}
ON_ACCELERATOR = 65_536  # tokens of a batch: there a small one takes as long
SAFE_COSINE = {"bfloat16": 0.999, "int8": 0.99}
MANY = 50_000  # labels of a space that are embedded in int8
PROBE = ("Calcium/metabolism", "A heading.", "How hard is it to shortlist a document's labels?", "I50.21 " * 40)


class SentenceEncoder:
    """A sentence-transformers model, run without padding, in bfloat16 where that is fast and safe.

    name: "minilm" (all-MiniLM-L6-v2 from the package that carries it, no hub), a hub name or a local folder.
    dtype: "float32", "bfloat16", "int8" (a BERT on the CPU only) or "auto", which takes bfloat16 where that is fast
        (`hardware.dtype`) and the vectors of four probe texts stay within a cosine of 0.999 of those in float32.
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
        self.at_once, self.workers = (shards.SIZE, 1) if on_accelerator else (AT_ONCE, 0)
        self._embed, self.dtype = self._fastest(model) if dtype == "auto" else (_in_dtype(model, dtype), dtype)
        self._batch_tokens = ON_ACCELERATOR if on_accelerator else BATCH_TOKENS[self.dtype]
        self.book_key, self.key = self._keys(folder, _commit(model), self.dtype)
        may_be_int8 = dtype == "auto" and hardware.int8_is_fast(device) and int8.fits(model[0])
        self._int8_key = self._keys(folder, _commit(model), "int8")[1] if may_be_int8 else ""

    def rough(self) -> Encoder:
        """What embeds very many texts: the model in int8 where nobody set a dtype and that is fast, else itself."""
        return _InInt8(self, self._int8_key) if self._int8_key else self

    def _fastest(self, model: SentenceTransformer) -> tuple[nn.Module, str]:
        """The model in bfloat16 where that is fast and safe, else in float32, and the dtype."""
        if hardware.dtype(model.device.type) == "bfloat16":
            self._embed, self._batch_tokens = model, BATCH_TOKENS["bfloat16"]
            exact = self.vectors(PROBE)
            self._embed = _in_dtype(model, "bfloat16")
            if (exact * self.vectors(PROBE)).sum(1).min() >= SAFE_COSINE["bfloat16"]:
                return self._embed, "bfloat16"
        return model, "float32"

    def _keys(self, folder: Path, commit: str | None, dtype: str) -> tuple[str, str]:
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
            digest(["sentence", *weights, dtype, longest, *of_settings]),
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


class _InInt8:
    """A sentence encoder in int8, which is loaded at its first use.

    exact: the encoder that it is near to. It takes over where the vectors of the probe texts are not near.
    key: of its vectors.
    """

    def __init__(self, exact: SentenceEncoder, key: str) -> None:
        self.exact, self.key, self.book_key = exact, key, exact.book_key
        self.name, self.dim, self.at_once, self.workers = exact.name, exact.dim, exact.at_once, exact.workers

    def rough(self) -> Encoder:
        return self

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        return self._encoder.vectors(texts)

    @cached_property
    def _encoder(self) -> SentenceEncoder:
        whole = SentenceEncoder(self.name, "int8", "cpu")
        is_near = (whole.vectors(PROBE) * self.exact.vectors(PROBE)).sum(1).min() >= SAFE_COSINE["int8"]
        return whole if is_near else self.exact

    def __getstate__(self) -> dict[str, Any]:
        """What other processes get: the encoder that is used, and no other."""
        return {**self.__dict__, "exact": None, "_encoder": self._encoder}


class StaticEncoder:
    """Averages of WordLlama's static token vectors (256-d): a thousandth of the work of a transformer."""

    def __init__(self) -> None:
        from wordllama import WordLlama

        weights = packaged_file("wordllama_weights")
        self._model = WordLlama.load(cache_dir=weights.parent.parent, disable_download=True)
        self.name, self.dim = "wordllama", int(self._model.embedding.shape[1])
        self.at_once, self.workers = AT_ONCE, 0
        self.key = self.book_key = digest(["static", file_digest(weights), version("wordllama")])

    def rough(self) -> Encoder:
        return self

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
            shards.write(path, encoder, texts, desc)
    with named_if_damaged(path):
        return np.load(path, mmap_mode="r")


def vectors_key(encoder: Encoder, texts: Sequence[str]) -> str:
    """The key of the file that `encode` makes.

    encoder: embeds the texts.
    texts: in their order.
    """
    versions = [version(library).partition("+")[0] for library in LIBRARIES]
    return MAKER.key(encoder=encoder, texts=list(texts), versions=versions, processor=platform.machine())


def encode_labels(encoder: Encoder, space: LabelSpace) -> Float[np.ndarray, "labels d"]:
    """Unit vectors of all labels of a label space, as `encode` gives them; of `MANY` labels or more the rough ones."""
    return encode(_of_labels(encoder, space), space.texts[: len(space)], f"embedding {len(space):,} labels")


def labels_key(encoder: Encoder, space: LabelSpace) -> str:
    """The key of the file that `encode_labels` makes."""
    return vectors_key(_of_labels(encoder, space), space.texts[: len(space)])


def _of_labels(encoder: Encoder, space: LabelSpace) -> Encoder:
    return encoder.rough() if len(space) >= MANY else encoder


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
