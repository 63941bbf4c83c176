"""Adapters in peft's form: what they are known by, and how they are merged into a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ctd.cache import digest, file_digest
from ctd.reasoning import probe
from ctd.reasoning.weights import in_one_line

ADAPTER = "adapter_model.safetensors"


def identity(folder: Path) -> str:
    """Digest of an adapter's weights and settings, less the path of the base it was trained on.

    folder: what peft's `save_pretrained` wrote, in safetensors.
    Raises FileNotFoundError when the folder or a file of it is not there, ValueError for damaged settings.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no adapter folder {folder}")
    if not (folder / "adapter_config.json").exists():
        raise FileNotFoundError(f"{folder} has no adapter_config.json: give what peft's save_pretrained wrote")
    if not (folder / ADAPTER).exists():
        raise FileNotFoundError(f"{folder} has no {ADAPTER}: save the adapter with safe_serialization=True")
    with in_one_line(f"{folder / 'adapter_config.json'} is not an adapter's settings"):
        settings = dict(json.loads((folder / "adapter_config.json").read_text("utf-8")))
    settings.pop("base_model_name_or_path", None)
    return digest([file_digest(folder / ADAPTER), json.dumps(settings, sort_keys=True)])


def merge(model: Any, folder: Path) -> Any:
    """The model with the adapter added to its weights, so that what reads a head's weights reads the tuned ones.

    folder: of the adapter.
    Raises ValueError for an adapter that does not fit the model.
    """
    import peft

    with in_one_line(f"the adapter {folder} does not fit {type(model).__name__}"):
        if peft.PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
            raise ValueError("it learns a prompt, and only adapters of weights (such as LoRA) can be merged")
        tuned = peft.PeftModel.from_pretrained(model, str(folder))
        with safe_open(folder / ADAPTER, "pt") as stream:
            stored = set(stream.keys())
        wanted, known = (set(peft.get_peft_model_state_dict(tuned, save_embedding_layers=e)) for e in (False, True))
        if strange := sorted(wanted - stored) + sorted(stored - known):
            raise ValueError(f"{len(strange)} tensors are in one of the two only, {strange[0]} first")
        beside = probe.logits(tuned)
        merged = tuned.merge_and_unload(safe_merge=True)
        if not probe.near(probe.logits(merged), beside, merged.dtype):
            raise ValueError(
                "merged into the weights it does something else than beside them (is it on an embedding that is tied "
                "to the output layer?): merge it with your own code, and give the folder of the merged model"
            )
        return merged
