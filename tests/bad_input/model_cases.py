"""Folders of models and adapters that cannot be loaded, or should not."""

# ruff: noqa: E501 (a case stands on a line, like the row of a table)
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.bad_input.case import Case

SHAPE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def write_model(folder: Path) -> None:
    """A random model and its tokenizer."""
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1} | {f"w{i}": i for i in range(2, 40)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE)).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<end>").save_pretrained(
        folder
    )


def model(name: str, spoil: Callable[[Path], object], *says: str) -> Case:
    """The model with something spoilt in its folder."""

    def write(folder: Path) -> None:
        shutil.copytree("shared/model", folder)
        spoil(folder)

    return Case(f"model: {name}", "check-model m", says, {"m": write})


def config(**changes: Any) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        settings = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(settings))

    return spoil


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def put(file: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)


def gone(*files: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / file).unlink() for file in files]


def renamed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])


def sharded(names: dict[str, str] | str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        renamed("model-1.safetensors")(folder)
        index = names if isinstance(names, str) else json.dumps({"metadata": {}, "weight_map": names})
        (folder / "model.safetensors.index.json").write_text(index)

    return spoil


def larger_tokenizer(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    tokenizer.save_pretrained(folder)


def nothing_to_pad_with(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    words.save_pretrained(folder)


Q = "model.layers.0.self_attn.q_proj.weight"
CASES = [
    Case("model: nowhere", "check-model ./nowhere", ("there is no folder or .gguf file ./nowhere",)),
    Case("model: an empty folder", "check-model m", ("m has no config.json", "save_pretrained"), {"m/README": ""}),
    Case("model: a file of no kind", "check-model m.bin", ("m.bin",), {"m.bin": b"\x00"}),
    Case("model: a gguf that is none", "check-model m.gguf", ("m.gguf could not be read",), {"m.gguf": b"GGUF rest"}),
    Case("model: two gguf files", "check-model m", ("m has 2 .gguf files: name one",), {"m/a.gguf": b"", "m/b.gguf": b""}),
    Case("model: an adapter", "check-model m", ("m is an adapter", "base model"), {"m/adapter_config.json": "{}", "m/config.json": "{}"}),
    model("no configuration", gone("config.json"), "m has no config.json"),
    model("a configuration cut short", put("config.json", '{"model_'), "m has no readable config.json"),
    model("a list for a configuration", put("config.json", "[1]"), "m has no readable config.json"),
    model("a configuration of bytes", put("config.json", b"\xff\xfe"), "m has no readable config.json"),
    model("no weights", gone("model.safetensors"), "m has no model weights"),
    model("weights in a pickle", renamed("pytorch_model.bin"), "only as a pickle .pytorch_model.bin.", "use_safetensors=False"),
    model("weights cut short", cut, "m could not be read as a causal language model"),
    model("weights that are none", put("model.safetensors", b"no tensors here"), "m could not be read"),
    model("empty weights", put("model.safetensors", b""), "m could not be read"),
    model("an index of nothing", sharded("{"), "index.json is not an index of shards"),
    model("an index without its map", sharded('{"metadata": {}}'), "index.json is not an index of shards"),
    model("a shard that is not there", sharded({Q: "model-2.safetensors"}), "m lacks model-2.safetensors .1 of 1 shards", "fetch again"),
    model("a tensor too few", weights(lambda w: w.pop(Q)), "lack 1 tensors of LlamaForCausalLM", "q_proj.weight"),
    model("a tensor too many", weights(lambda w: w.update({f"{Q}_scale": torch.ones(1)})), "have 1 tensors too many", "q_proj.weight_scale"),
    model("a tensor of another shape", weights(lambda w: w.update({Q: torch.ones(3, 3)})), "m could not be read|lack"),
    model("fewer layers than weights", config(num_hidden_layers=1), "tensors too many for LlamaForCausalLM", "model.layers.1"),
    model("more layers than weights", config(num_hidden_layers=3), "lack .* tensors of LlamaForCausalLM", "model.layers.2"),
    model("another width", config(hidden_size=32), "m could not be read|lack"),
    model("an unknown type", config(model_type="magic"), "m is not a decoder-only language model .model_type 'magic'"),
    model("an encoder", config(model_type="vit", architectures=["ViTModel"]), "m is not a decoder-only language model"),
    model("an encoder and a decoder", config(is_encoder_decoder=True), "m is not a decoder-only language model"),
    model("code of its own", config(model_type="magic", auto_map={"AutoModelForCausalLM": "m.M"}), "brings code of its own", "not run"),
    model("a setting of another kind", config(num_attention_heads="two"), "m could not be read"),
    model("heads that do not divide", config(num_attention_heads=3, num_key_value_heads=2), "m could not be read|lack"),
    model("no tokenizer", gone("tokenizer.json", "tokenizer_config.json"), "m has no readable tokenizer|tokenizer of m has no tokens"),
    model("a tokenizer cut short", put("tokenizer.json", '{"version'), "m has no readable tokenizer"),
    model("a tokenizer beyond the embedding", larger_tokenizer, "token '<new>' as number 40, and the model embeds 0 to 39", "resize_token"),
    model("nothing to pad with", nothing_to_pad_with, "the tokenizer of m has no tokens, or none to pad with"),
    model("weights that are no numbers", weights(lambda w: w.update({Q: w[Q] * torch.nan})), "the weights of m are no finite numbers", "layers.0.self_attn.q_proj.weight first"),
    model("a manifest cut short", put("manifest.json", '{"recipe'), "m/manifest.json is not JSON"),
    model("a list for a manifest", put("manifest.json", "[]"), "m/manifest.json", "object|mapping|not whole"),
]  # fmt: skip
