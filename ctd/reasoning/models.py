"""Language models: any decoder-only model as one record of weights, tokenizer and key."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from safetensors import safe_open

from ctd.cache import DATA, digest, file_digest, packaged_file
from ctd.hardware import computes_bfloat16
from ctd.reasoning.weights import INDEX, WEIGHTS, gguf_file, in_one_line, read_folder, read_gguf, unpacked, weight_files

SMOLLM2 = "smollm2"
TEACHER = "smollm2-mesh"
ORGANISMS = ("organism", "organism-planted")
DTYPES = ("auto", "float32", "bfloat16", "float16")
ADAPTER = "adapter_model.safetensors"
SETTINGS = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "chat_template*", "vocab*", "merges.txt", "*.py",
)  # fmt: skip


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

    name: "smollm2" (SmolLM2-135M-Instruct from the package that carries it, no hub), "smollm2-mesh" (the same with
        the adapter of `ctd.recipes.teacher`), "organism" or "organism-planted" (`ctd.recipes.organism`), a folder of
        safetensors (one file or shards), a .gguf file or a folder of one, or a Hugging Face id.
    dtype: "auto" takes bfloat16 where the device computes in it, float32 elsewhere.
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
    if name == TEACHER:
        if not (DATA / name).is_dir():
            raise FileNotFoundError(f"the teacher {name!r} is not in {DATA}: `make teacher` builds it")
        if adapter:
            raise ValueError(f"{name} is smollm2 with an adapter of its own: load smollm2 with yours")
        tuned = load(SMOLLM2, dtype=dtype, device=device, device_map=device_map, adapter=DATA / name)
        return replace(tuned, name=name)
    if device and device_map:
        raise ValueError(f"give device or device_map, not both, got device={device!r}")
    source = packaged_file("smollm2_weights") if name == SMOLLM2 else Path(name).expanduser()
    if name in ORGANISMS and not (source := DATA / name).is_dir():
        raise FileNotFoundError(f"the model organism {name!r} is not in {DATA}: `make organism` builds it")
    if revision and (name == SMOLLM2 or source.exists()):
        raise ValueError(f"revision is for Hugging Face ids, and {name} lies on this machine: leave it out")
    lora = _adapter_identity(Path(adapter).expanduser()) if adapter else ""
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto":
        dtype = "bfloat16" if computes_bfloat16(place) else "float32"
    options = {"dtype": getattr(torch, dtype), "device_map": device_map}
    if name == SMOLLM2:
        identity = [file_digest(source)]
        model, tokenizer = read_folder(unpacked(source, identity[0]), options)
    elif (gguf := gguf_file(source)) is not None:
        identity = [file_digest(gguf)]
        model, tokenizer = read_gguf(gguf, options)
    else:
        folder = source if source.is_dir() else _fetched(name, revision)
        files = weight_files(folder) + sorted({file for glob in SETTINGS for file in folder.glob(glob)})
        model, tokenizer = read_folder(folder, options, trusted=trust == name)
        if folder == source:
            identity = [part for file in files if file.is_file() for part in (file.name, file_digest(file))]
        else:
            identity = [name, folder.name]
    if adapter:
        model = _merge(model, Path(adapter).expanduser())
    if device_map is None:
        model = model.to(place)
    _pad(tokenizer, name)
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    own, in_book = (digest(["reasoner", *identity, computed, lora]) for computed in (dtype, "any dtype"))
    return LanguageModel(name, model.eval(), tokenizer, own, in_book)


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


def _adapter_identity(folder: Path) -> str:
    """Digest of an adapter's weights and settings, less the path of the base it was trained on."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no adapter folder {folder}")
    if not (folder / "adapter_config.json").exists():
        raise FileNotFoundError(f"{folder} has no adapter_config.json: give what peft's save_pretrained wrote")
    if not (folder / ADAPTER).exists():
        raise FileNotFoundError(f"{folder} has no {ADAPTER}: save the adapter with safe_serialization=True")
    with in_one_line(f"{folder / 'adapter_config.json'} is not an adapter's settings"):
        settings = dict(json.loads((folder / "adapter_config.json").read_text()))
    settings.pop("base_model_name_or_path", None)
    return digest([file_digest(folder / ADAPTER), json.dumps(settings, sort_keys=True)])


def _merge(model: Any, folder: Path) -> Any:
    """The model with the adapter added to its weights, so that what reads a head's weights reads the tuned ones."""
    import peft

    with in_one_line(f"the adapter {folder} does not fit {type(model).__name__}"):
        if peft.PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
            raise ValueError("it learns a prompt, and only adapters of weights (such as LoRA) can be merged")
        tuned = peft.PeftModel.from_pretrained(model, str(folder))
        with safe_open(folder / ADAPTER, "pt") as stream:
            given = set(stream.keys())
        wanted, known = (set(peft.get_peft_model_state_dict(tuned, save_embedding_layers=e)) for e in (False, True))
        if strange := sorted(wanted - given) + sorted(given - known):
            raise ValueError(f"{len(strange)} tensors are in one of the two only, {strange[0]} first")
        return tuned.merge_and_unload(safe_merge=True)
