"""Language models: any decoder-only model as one record of weights, tokenizer and key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers

from ctd import hardware
from ctd.cache import DATA, digest, file_digest, packaged_file
from ctd.reasoning import adapters, weight_parts
from ctd.reasoning.weights import INDEX, WEIGHTS, gguf_file, read_folder, read_gguf, unpacked, weight_files

SMOLLM2 = "smollm2"
TEACHER = "smollm2-mesh"
DTYPES = ("auto", "float32", "bfloat16", "float16")
SETTINGS = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "chat_template*", "vocab*", "merges.txt", "*.py",
)  # fmt: skip


@dataclass(frozen=True)
class Packaged:
    """A model that comes with the book.

    folder: under data/, of its weights, or of its adapter where it has a base.
    source: the key of data/sources.json whose package carries its weights, for a model without a folder.
    parts: the name in data/sources-reasoner.json of weights that optional packages carry in parts.
    base: the packaged model that its adapter is merged into; "" for weights of its own.
    dtype: what "auto" means for it.
    mend: the command that builds its folder where that is missing.
    generation: how it is to draw tokens, by its publisher, where its file does not say so.
    """

    folder: str = ""
    source: str = ""
    parts: str = ""
    base: str = ""
    dtype: str = "auto"
    mend: str = ""
    generation: Mapping[str, Any] = field(default_factory=dict)


QWEN = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}
PACKAGED = {
    SMOLLM2: Packaged(source="smollm2_weights"),  # SmolLM2-135M-Instruct
    TEACHER: Packaged(TEACHER, base=SMOLLM2, mend="make teacher"),  # see ctd.recipes.teacher
    "organism": Packaged("organism", dtype="float32", mend="make organism"),  # see ctd.recipes.organism
    "organism-planted": Packaged("organism-planted", dtype="float32", mend="make organism"),
    "qwen-1.5b": Packaged(  # Qwen2.5-Coder-1.5B-Instruct
        parts="qwen_1.5b_weights", mend=weight_parts.MEND, generation=QWEN
    ),
    "qwen-0.5b": Packaged(  # Qwen2.5-Coder-0.5B-Instruct
        parts="qwen_0.5b_weights", mend=weight_parts.MEND, generation=QWEN
    ),
    "organism-early": Packaged("organism-early", dtype="float32", mend="make organism"),
    "organism-late": Packaged("organism-late", dtype="float32", mend="make organism"),
    "organism-swapped": Packaged("organism-swapped", dtype="float32", mend="make organism"),
}


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model that is ready to read and write.

    name: as given to `load`.
    model: in eval mode, its adapter merged.
    tokenizer: pads on the left and has a pad token.
    key: digest of what the outputs depend on (weights, settings and tokenizer by SHA-256, or hub name and commit;
        dtype; adapter), and not of where the files lie.
    book_key: the same whatever the dtype, "" where it is not known. What the model wrote on one processor comes with
        the book, and is read on a processor that computes in another precision, too.
    """

    name: str
    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    key: str
    book_key: str = ""


def load(
    name: str = SMOLLM2,
    *,
    dtype: str = "auto",
    device: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    adapter: str | Path | None = None,
    trust: str = "",
) -> LanguageModel:
    """The decoder-only model of that name, with its adapter merged into its weights.

    name: of a packaged model (see `PACKAGED`), a folder of safetensors (one file or shards), a .gguf file or a folder
        of one, or a Hugging Face id.
    dtype: "auto" takes a packaged model's own, else what computes well on the device (`hardware.dtype`).
    device: cuda when there is one, else cpu.
    device_map: for accelerate, in place of a device.
    revision: of a Hugging Face id.
    adapter: a peft folder, in safetensors.
    trust: the name once more, to let the repository's own code run; without it only classes of transformers do.
    Raises FileNotFoundError when a folder, a file or a hub repository is not there, ValueError for weights that are a
    pickle or do not fit, for a model that is not a causal one, for code that is not trusted, and for an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if device and device_map:
        raise ValueError(f"give device or device_map, not both, got device={device!r}")
    packaged, source = PACKAGED.get(name), source_of(name)
    if revision and (packaged or source.exists()):
        raise ValueError(f"revision is for Hugging Face ids, and {name} lies on this machine: leave it out")
    if packaged and dtype == "auto":
        dtype = packaged.dtype
    if packaged and packaged.base:
        if adapter:
            raise ValueError(f"{name} is {packaged.base} with an adapter of its own: load {packaged.base} with yours")
        return replace(
            load(packaged.base, dtype=dtype, device=device, device_map=device_map, adapter=source), name=name
        )
    lora = adapters.identity(Path(adapter).expanduser()) if adapter else ""
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto":
        dtype = hardware.dtype(place)
    options = {"dtype": getattr(torch, dtype), "device_map": device_map}
    model, tokenizer, identity = _read(name, source, revision, options, trusted=trust == name)
    if adapter:
        model = adapters.merge(model, Path(adapter).expanduser())
    if device_map is None:
        model = model.to(place)
    _pad(tokenizer, name)
    _check_vocabulary(model, tokenizer, name)
    _check_finite(model, name)
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    key, book_key = (digest(["reasoner", *identity, computed, lora]) for computed in (dtype, "any dtype"))
    return LanguageModel(name, model.eval(), tokenizer, key, book_key)


def folder(name: str) -> Path:
    """Where a model of that name lies: a packaged one under data/, any other at the path that the name is.

    name: as in `load`. There need be nothing at that path.
    """
    packaged = PACKAGED.get(name)
    return DATA / packaged.folder if packaged and packaged.folder else Path(name).expanduser()


def source_of(name: str) -> Path:
    """The file or folder of a model's weights or adapter; for a Hugging Face id a path at which nothing lies.

    name: as in `load`. Weights in parts are unpacked first.
    Raises FileNotFoundError for a packaged model that is not here.
    """
    packaged, path = PACKAGED.get(name), folder(name)
    if packaged and packaged.source:
        return packaged_file(packaged.source)
    if packaged and packaged.parts:
        return weight_parts.unpacked(packaged.parts)
    if packaged and not path.is_dir():
        raise FileNotFoundError(f"the model {name!r} is not in {DATA}: `{packaged.mend}` builds it")
    return path


def _read(
    name: str, source: Path, revision: str | None, options: dict[str, Any], trusted: bool
) -> tuple[Any, Any, list[str]]:
    """Model, tokenizer, and what they are known by: the digests of their files, or hub name and commit."""
    if (gguf := gguf_file(source)) is not None:
        identity = [file_digest(gguf)]
        if name in PACKAGED:
            return *read_folder(unpacked(gguf, identity[0]), options), identity
        return *read_gguf(gguf, options), identity
    if (packaged := PACKAGED.get(name)) and packaged.parts:
        model, tokenizer = read_folder(source, options)
        model.generation_config.update(**packaged.generation)
        return model, tokenizer, [weight_parts.named(packaged.parts).sha256]
    path = source if source.is_dir() else _fetched(name, revision)
    files = weight_files(path) + sorted({file for glob in SETTINGS for file in path.glob(glob)})
    model, tokenizer = read_folder(path, options, trusted=trusted)
    if path != source:
        return model, tokenizer, [name, path.name]
    return model, tokenizer, [part for file in files if file.is_file() for part in (file.name, file_digest(file))]


def _fetched(name: str, revision: str | None) -> Path:
    """The folder, named by its commit, in which a hub repository's safetensors and tokenizer are cached."""
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        raise FileNotFoundError(f"there is no folder or .gguf file {name}, and it is no Hugging Face id either")
    try:
        wanted = [WEIGHTS, INDEX, "model-*.safetensors", *SETTINGS]
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileNotFoundError(f"no model {name!r}: no folder here, and the hub gave none ({reason})") from error


def _pad(tokenizer: Any, name: str) -> None:
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    if not len(tokenizer) or tokenizer.pad_token is None:
        raise ValueError(f"the tokenizer of {name} has no tokens, or none to pad with (pad, end or unknown)")


def _check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer with a token for which the model has no embedding."""
    n_embedded = model.get_input_embeddings().num_embeddings
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if largest >= n_embedded:
        raise ValueError(
            f"the tokenizer of {name} has the token {token!r} as number {largest}, and the model embeds 0 to "
            f"{n_embedded - 1}: save the model after resize_token_embeddings(len(tokenizer)), or give its own tokenizer"
        )


@torch.no_grad()
def _check_finite(model: Any, name: str) -> None:
    """Refuse weights that are no numbers: attention may hide them, and texts are then wrong without a word."""
    for tensor, weight in model.named_parameters():
        if (
            weight.is_floating_point()
            and weight.device.type != "meta"
            and not weight.sum(dtype=torch.float32).isfinite()
        ):
            raise ValueError(f"the weights of {name} are no finite numbers, {tensor} first: fetch or train them again")
