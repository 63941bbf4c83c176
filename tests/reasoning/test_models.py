"""Models of the common layouts load, each in one call; what cannot load, or should not, says why in one line."""

import copy
import json
import shutil
from collections import Counter

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from ctd.cache import cache_dir, packaged_file
from ctd.reasoning.models import load

SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip
CONFIGS = {"llama": transformers.LlamaConfig, "qwen3": transformers.Qwen3Config}
IDS = torch.tensor([[3, 7, 1, 9, 4]])


@pytest.fixture(scope="module")
def tokenizer():
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1} | {f"w{i}": i for i in range(2, 40)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<end>")


@pytest.fixture
def build(tmp_path, tokenizer):
    """Writes a random model with its tokenizer to a folder of that name, and gives the folder."""

    def write(name="base", layout="llama", seed=0, shards="1GB", **changes):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(CONFIGS[layout](**SHAPE | changes))
        model.save_pretrained(tmp_path / name, max_shard_size=shards)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def tune(tmp_path):
    """Writes a random LoRA adapter for a model folder, and gives its folder."""

    def write(base, name="adapter", seed=1, targets=("q_proj", "o_proj"), **more):
        torch.manual_seed(seed)
        settings = peft.LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False, **more)
        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        peft.get_peft_model(model, settings).save_pretrained(tmp_path / name)
        return tmp_path / name

    return write


@torch.inference_mode()
def logits(model):
    return model(IDS.to(model.device)).logits.float()


def loaded(folder, **options):
    return load(str(folder), **{"dtype": "float32", "device": "cpu"} | options)


def refused(kind, folder, **options):
    with pytest.raises(kind) as caught:
        loaded(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("layout", CONFIGS)
@pytest.mark.parametrize("shards", ["1GB", "10KB"])
def test_a_folder_loads_as_the_library_loads_it(build, layout, shards):
    folder = build(layout=layout, shards=shards)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shards == "10KB")
    language_model = loaded(folder)
    assert not language_model.model.training
    library = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert torch.equal(logits(language_model.model), logits(library))


def test_batches_are_padded_on_the_left_with_the_end_token_when_there_is_no_other(build):
    language_model = loaded(build())
    assert language_model.tokenizer(["w5", "w6 w7"], padding=True)["input_ids"] == [[1, 5], [6, 7]]
    assert language_model.model.generation_config.pad_token_id == 1


def test_dtype_is_the_one_asked_for(build):
    folder = build()
    for dtype in ("float32", "bfloat16", "float16"):
        assert {p.dtype for p in loaded(folder, dtype=dtype).model.parameters()} == {getattr(torch, dtype)}
    assert loaded(folder, dtype="auto").model.dtype in (torch.float32, torch.bfloat16)


def test_a_device_map_is_passed_on(build):
    folder = build()
    mapped = load(str(folder), dtype="float32", device_map={"": "cpu"})
    assert torch.equal(logits(mapped.model), logits(loaded(folder).model))
    assert load(str(folder), device_map="meta").model.device.type == "meta"
    with pytest.raises(ValueError, match="give device or device_map, not both, got device='cpu'"):
        load(str(folder), device="cpu", device_map="auto")


def test_the_key_names_all_that_the_outputs_depend_on_and_nothing_else(build, tune, tmp_path):
    folder = build()
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("a note")
    adapter = tune(folder)
    shutil.copytree(adapter, tmp_path / "moved")
    edit(tmp_path / "moved" / "adapter_config.json", base_model_name_or_path="elsewhere")
    same = [loaded(folder), loaded(tmp_path / "copy")]
    tuned = [loaded(folder, adapter=adapter), loaded(folder, adapter=tmp_path / "moved")]
    assert [len({language_model.key for language_model in group}) for group in (same, tuned)] == [1, 1]
    other_adapter, strength = tune(folder, "other", seed=2), tune(folder, "strength", lora_alpha=1)
    keys = [
        same[0].key,
        tuned[0].key,
        loaded(folder, adapter=other_adapter).key,
        loaded(folder, adapter=strength).key,
        loaded(folder, dtype="bfloat16").key,
        loaded(build("reseeded", seed=1)).key,
        loaded(build("rotated", rope_parameters={"rope_type": "default", "rope_theta": 500.0})).key,
    ]
    assert len(set(keys)) == len(keys)
    in_book = {loaded(folder, dtype=dtype).book_key for dtype in ("float32", "bfloat16")}
    assert len(in_book) == 1, "of the same weights, whatever the dtype"
    assert not in_book & {tuned[0].book_key, *keys}


def test_an_adapter_is_merged_and_answers_as_peft_has_it(build, tune):
    folder = build()
    adapter = tune(folder)
    merged = loaded(folder, adapter=adapter).model
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    before = logits(base)
    assert not torch.allclose(logits(merged), before, atol=1e-3)
    assert torch.allclose(logits(merged), logits(peft.PeftModel.from_pretrained(base, adapter).eval()), atol=1e-5)
    assert type(merged) is transformers.LlamaForCausalLM


def test_adapters_that_do_not_fit_are_refused(build, tune, tmp_path):
    folder, deeper = build(), build("deeper", num_hidden_layers=3)
    wider = build("wider", hidden_size=64)
    adapter = tune(folder)
    assert "tensors are in one of the two only" in refused(ValueError, folder, adapter=tune(deeper, "a"))
    assert "tensors are in one of the two only" in refused(ValueError, deeper, adapter=adapter)
    assert "size mismatch" in refused(ValueError, wider, adapter=adapter)
    edit(adapter / "adapter_config.json", target_modules=["c_attn"])
    complaint = refused(ValueError, folder, adapter=adapter)
    assert f"the adapter {adapter} does not fit LlamaForCausalLM: Target modules" in complaint
    assert "is an adapter: merge it into its base model" in refused(ValueError, adapter)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "has no adapter_model.safetensors: save" in refused(FileNotFoundError, folder, adapter=adapter)
    (adapter / "adapter_config.json").unlink()
    assert "has no adapter_config.json" in refused(FileNotFoundError, folder, adapter=adapter)
    assert "no adapter folder" in refused(FileNotFoundError, folder, adapter=tmp_path / "none")


def test_an_adapter_that_learns_a_prompt_is_refused(build, tmp_path):
    folder = build()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(model, prompt).save_pretrained(tmp_path / "prompt")
    assert "it learns a prompt" in refused(ValueError, folder, adapter=tmp_path / "prompt")


def test_a_missing_shard_is_named(build):
    folder = build(shards="10KB")
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    count = len(list(folder.glob("*.safetensors"))) + 1
    assert f"lacks {lost.name} (1 of {count} shards in" in refused(FileNotFoundError, folder)
    (folder / "model.safetensors.index.json").write_text("{")
    assert "is not an index of shards" in refused(ValueError, folder)


def test_a_truncated_file_is_refused(build):
    folder = build()
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "could not be read as a causal language model" in refused(ValueError, folder)


def test_a_pickle_is_never_read(build):
    folder = build()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    complaint = refused(ValueError, folder)
    assert "only as a pickle (pytorch_model.bin)" in complaint
    assert "use_safetensors=False" in complaint


def test_folders_without_a_model_are_refused(build, tmp_path):
    folder = build()
    (folder / "model.safetensors").unlink()
    assert "has no model weights (model.safetensors," in refused(FileNotFoundError, folder)
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text("{")
    assert "has no readable config.json" in refused(ValueError, folder)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    assert "has no config.json" in refused(FileNotFoundError, folder)
    assert "there is no folder or .gguf file" in refused(FileNotFoundError, tmp_path / "none")
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(b"GGUF")
    assert "has 2 .gguf files: name one, for instance" in refused(ValueError, folder)
    assert "could not be read as a causal language model" in refused(ValueError, folder / "a.gguf")


def test_a_folder_without_a_tokenizer_is_refused(build):
    folder = build()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in refused(ValueError, folder)


def test_weights_of_another_architecture_are_refused(build):
    folder, other = build(), build("other", "qwen3")
    shutil.copy(folder / "model.safetensors", other)
    assert "lack 4 tensors of Qwen3ForCausalLM, model.layers.0.self_attn.k_norm" in refused(ValueError, other)


@pytest.mark.parametrize(
    "model",
    [
        transformers.BertForMaskedLM(
            transformers.BertConfig(
                vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
            )
        ),
        transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ),
        transformers.LlamaModel(transformers.LlamaConfig(**SHAPE)),
    ],
    ids=["encoder", "encoder-decoder", "no head"],
)
def test_only_causal_language_models_are_language_models(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    complaint = refused(ValueError, tmp_path)
    assert "is not a decoder-only language model" in complaint
    assert type(model).__name__ in complaint


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({marker!r}).touch()
class OddConfig(LlamaConfig):
    model_type = "odd"
class OddModel(LlamaForCausalLM):
    config_class = OddConfig
"""


@pytest.fixture
def odd(build, tmp_path, monkeypatch):
    """A folder that brings its own code, and the file that the code makes when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, marker = build("odd_model"), tmp_path / "ran"
    (folder / "odd.py").write_text(CODE.format(marker=str(marker)))
    auto_map = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddModel"}
    edit(folder / "config.json", auto_map=auto_map, model_type="odd", architectures=["OddModel"])
    return folder, marker


def test_code_of_a_repository_runs_only_when_it_is_trusted_by_name(odd):
    folder, marker = odd
    for trust in ("", "True", folder.name):
        assert "brings code of its own (auto_map in config.json)" in refused(ValueError, folder, trust=trust)
    assert not marker.exists()
    assert type(loaded(folder, trust=str(folder)).model).__name__ == "OddModel"
    assert marker.exists()


def test_code_that_the_library_does_not_need_is_left_alone(odd):
    folder, marker = odd
    edit(folder / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])
    assert type(loaded(folder).model) is transformers.LlamaForCausalLM
    assert not marker.exists()


@pytest.fixture
def hub(build, tmp_path, monkeypatch):
    """Puts a model folder into a hub cache of the test's own, as commit of that digit; gives the copy."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(folder, name, digit):
        cached = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, cached / "snapshots" / (digit * 40))
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / "main").write_text(digit * 40)
        return cached / "snapshots" / (digit * 40)

    return put


def test_a_hub_id_loads_and_its_key_names_the_commit(build, hub):
    first = build("first")
    hub(first, "some/model", "a")
    language_model = loaded("some/model")
    assert torch.equal(logits(language_model.model), logits(loaded(first).model))
    hub(build("second", seed=1), "some/model", "b")
    latest = loaded("some/model")
    assert latest.key != language_model.key
    assert loaded("some/model", revision="a" * 40).key == language_model.key
    cached = hub(build("third", shards="10KB"), "other/model", "c")
    sorted(cached.glob("*.safetensors"))[0].unlink()
    assert "lacks model-00001-of-" in refused(FileNotFoundError, "other/model")
    assert loaded("some/model", revision="b" * 40).key == loaded("some/model", revision="main").key == latest.key


def test_a_pickle_of_the_hub_is_never_read(build, hub):
    folder = build()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    hub(folder, "some/pickle", "a")
    assert "only as a pickle (pytorch_model.bin)" in refused(ValueError, "some/pickle")


def test_unusable_options_are_refused(build):
    message = "dtype must be one of auto, float32, bfloat16, float16, got 'int4'"
    assert refused(ValueError, "smollm2", dtype="int4") == message
    assert "revision is for Hugging Face ids" in refused(ValueError, build(), revision="main")
    assert "no model 'no/such-model': no folder here, and the hub gave none" in refused(
        FileNotFoundError, "no/such-model", revision="v1"
    )


@pytest.fixture(scope="module")
def smollm2():
    return load(device="cpu")


def answer(language_model, question="Name three organs of the body."):
    chat = [{"role": "user", "content": question}]
    prompt = language_model.tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = language_model.model.generate(**prompt, max_new_tokens=24, do_sample=False)
    return language_model.tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def test_smollm2_answers_and_answers_the_same_again(smollm2):
    first = answer(smollm2)
    assert first == answer(smollm2)
    words = Counter(first.lower().split())
    assert len(words) > 5
    assert words.most_common(1)[0][1] <= len(first.split()) / 2, "it repeats itself"


def test_smollm2_is_converted_once(smollm2, monkeypatch):
    folders = sorted(cache_dir("models").glob("SmolLM2-135M-Instruct.Q4_1-*"))
    monkeypatch.setattr("ctd.reasoning.weights.read_gguf", None)
    assert load(device="cpu").key == smollm2.key
    assert sorted(cache_dir("models").glob("SmolLM2-135M-Instruct.Q4_1-*")) == folders != []


def test_smollm2_keeps_its_chat_template_and_special_tokens(smollm2):
    tokenizer = smollm2.tokenizer
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert len(tokenizer) == smollm2.model.config.vocab_size == 49_152
    assert (tokenizer.eos_token, tokenizer.padding_side) == ("<|im_end|>", "left")
    assert (
        tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
        == tokenizer("<|im_start|><|im_end|>")["input_ids"]
    )
    assert tokenizer.decode(tokenizer("Calcium/métabolism  x\n")["input_ids"]) == "Calcium/métabolism  x\n"


def test_a_gguf_file_reads_as_its_conversion(smollm2):
    direct = load(str(packaged_file("smollm2_weights")), device="cpu")
    assert direct.key == smollm2.key
    assert torch.equal(logits(direct.model), logits(smollm2.model))
    assert answer(direct) == answer(smollm2)


def test_weights_with_tensors_too_many_are_refused(build):
    """Scaled weights without the settings that say so, and a configuration of fewer layers than the file has."""
    folder = build()
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight_scale"] = torch.ones(1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"have 1 tensors too many for LlamaForCausalLM, \S*q_proj.weight_scale first"):
        load(str(folder))
    half = build("half")
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"have 9 tensors too many for LlamaForCausalLM, model.layers.1\S* first"):
        load(str(half))


def test_a_tokenizer_with_a_token_that_is_not_embedded_is_refused(build, tokenizer):
    folder = build()
    larger = copy.deepcopy(tokenizer)
    larger.add_special_tokens({"pad_token": "<new>"})
    larger.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"has the token '<new>' as number 40, and the model embeds 0 to 39: save"):
        load(str(folder))


def test_an_adapter_on_a_tied_embedding_is_refused_and_on_its_own_merged(build, tune):
    tied = build("tied", tie_word_embeddings=True)
    with pytest.raises(ValueError, match="merged into the weights it does something else than beside them"):
        load(str(tied), dtype="float32", adapter=tune(tied, targets=("q_proj", "lm_head")))
    untied = build("untied")
    adapter = tune(untied, "other", targets=("q_proj", "lm_head"))
    base = transformers.AutoModelForCausalLM.from_pretrained(untied)
    tuned = peft.PeftModel.from_pretrained(base, adapter)
    merged = load(str(untied), dtype="float32", adapter=adapter)
    torch.testing.assert_close(merged.model(IDS).logits, tuned(IDS).logits, atol=1e-4, rtol=1e-4)
