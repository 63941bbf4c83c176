"""Merged LoRA: the gradients of peft's own, the saved folder, and what stays as it was."""

import copy
import json

import peft
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from ctd.distill import train
from ctd.distill.examples import collate
from ctd.distill.lora import MergedLoRA
from ctd.distill.token_loss import token_loss
from ctd.reasoning.models import load
from tests.distill.test_train import SHORT, make_examples, plain_loss, tiny

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def moved(model, rank=3, alpha=5.0):
    """Adapters whose B is no longer zero, merged."""
    adapters = MergedLoRA(model, rank, alpha)
    generator = torch.Generator().manual_seed(3)
    for b in adapters.b.values():
        b.data.normal_(0, 0.2, generator=generator)
    adapters.merge()
    return adapters


def by_peft(model, adapters):
    """peft's own LoRA around the model, with the same A and B."""
    config = peft.LoraConfig(r=adapters.rank, lora_alpha=adapters.alpha, target_modules=sorted(LINEAR))
    wrapped = peft.get_peft_model(model, config)
    for name in adapters.layers:
        layer = wrapped.get_submodule(f"base_model.model.{name}")
        layer.lora_A["default"].weight.data.copy_(adapters.a[name.replace(".", "/")])
        layer.lora_B["default"].weight.data.copy_(adapters.b[name.replace(".", "/")])
    return wrapped


@pytest.mark.parametrize("layout", ["Llama", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_are_those_of_peft(layout, tied):
    model = tiny(layout, tie_word_embeddings=tied)
    base = copy.deepcopy(model)
    adapters = moved(model)
    wrapped = by_peft(base, adapters)
    batch = collate(make_examples(), range(20))
    loss = token_loss(model, batch)
    loss.backward()
    adapters.take_gradients()
    peft_loss = plain_loss(wrapped, batch)
    peft_loss.backward()
    assert loss.item() == pytest.approx(peft_loss.item(), rel=1e-6)
    assert {name.rpartition(".")[2] for name in adapters.layers} == LINEAR
    for name in adapters.layers:
        layer = wrapped.get_submodule(f"base_model.model.{name}")
        for ours, matrix in ((adapters.a, layer.lora_A), (adapters.b, layer.lora_B)):
            expected = matrix["default"].weight.grad
            assert expected.abs().max() > 1e-3
            assert (ours[name.replace(".", "/")].grad - expected).abs().max() < 1e-5 * expected.abs().max() + 1e-5
    assert all(not layer.weight.grad.any() for layer in adapters.layers.values())


def test_only_adapted_layers_move_and_only_by_their_adapters(tmp_path):
    model = tiny(dtype=torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    adapters = MergedLoRA(model, 2, 4.0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    log = train.train(model, make_examples(), SHORT, tmp_path, adapters, validation=make_examples(3, seed=9))
    assert log[-1]["loss"] < log[0]["loss"]
    adapted = {f"{name}.weight" for name in adapters.layers}
    assert len(adapted) == 14
    assert {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])} == adapted
    for name, layer in adapters.layers.items():
        a, b = (matrix[name.replace(".", "/")] for matrix in (adapters.a, adapters.b))
        assert a.dtype == b.dtype == torch.float32
        exact = before[f"{name}.weight"].float() + 2.0 * b @ a
        assert torch.equal(layer.weight, exact.to(torch.bfloat16))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_the_output_layer_gets_no_gradient():
    for tied in (False, True):
        model = tiny(tie_word_embeddings=tied)
        MergedLoRA(model, 2, 4.0)
        token_loss(model, collate(make_examples(), range(20))).backward()
        assert model.lm_head.weight.grad is None
        assert model.model.embed_tokens.weight.grad is None


@pytest.fixture
def folder(tmp_path):
    """A base model's folder, with a tokenizer."""

    def write(model):
        words = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1} | {f"w{i}": i for i in range(2, 40)}, "<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<end>")
        model.save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return write


@torch.inference_mode()
def logits(model):
    return model.eval()(torch.tensor([[3, 7, 1, 9, 4]])).logits.float()


# float32: rounding of one product. bfloat16: A and B rounded to 8 bits, then the merged weight to 8 bits.
@pytest.mark.parametrize(
    ("dtype", "saved", "tolerance"),
    [("float32", torch.float32, 1e-6), ("float32", torch.bfloat16, 0.01), ("bfloat16", torch.bfloat16, 0.03)],
)
def test_what_is_saved_loads_as_what_was_trained(folder, tmp_path, dtype, saved, tolerance):
    model = tiny(dtype=getattr(torch, dtype))
    base = folder(model)
    before = logits(model)
    adapters = MergedLoRA(model, 4, 8.0)
    train.train(model, make_examples(), SHORT, tmp_path / "work", adapters)
    adapters.save(tmp_path / "adapter", "a base", saved)
    trained = logits(model)
    loaded = logits(load(str(base), adapter=tmp_path / "adapter", dtype=dtype, device="cpu").model)
    change = (trained - before).abs().max()
    assert change > 0.1
    assert (loaded - trained).abs().max() <= tolerance * trained.abs().max()
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "a base"


def test_the_folder_is_the_same_whenever_it_is_written_and_replaces_what_was_there(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "stale").touch()
    MergedLoRA(tiny(), 2, 4.0).save(tmp_path / "adapter", "base")
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors"
    }  # fmt: skip
    targets = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(LINEAR)  # peft keeps a set, whose order changes from process to process


def test_a_depends_on_the_seed_alone_and_is_drawn_as_peft_draws_it():
    def a(seed):
        return torch.cat([matrix.detach().flatten() for matrix in MergedLoRA(model, 8, 8.0, seed).a.values()])

    model = tiny()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = a(0)
    assert torch.equal(torch.rand(2), expected)  # the caller's random numbers are left alone
    assert torch.equal(first, a(0))
    assert not torch.equal(first, a(1))
    wrapped = peft.get_peft_model(tiny(), peft.LoraConfig(r=8, target_modules=sorted(LINEAR)))
    drawn = torch.cat([p.detach().flatten() for name, p in wrapped.named_parameters() if "lora_A" in name])
    assert first.shape == drawn.shape
    assert first.std().item() == pytest.approx(drawn.std().item(), rel=0.05)
    assert first.abs().max().item() == pytest.approx(drawn.abs().max().item(), rel=0.05)


def test_what_cannot_be_adapted_is_refused():
    for rank in (0, 17):
        with pytest.raises(ValueError, match=rf"rank must be between 1 and 16 \(the smallest layer\), got {rank}"):
            MergedLoRA(tiny(), rank, 4.0)
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        MergedLoRA(tiny(), 2, 0)
    shape = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8}
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))
    with pytest.raises(ValueError, match="GPT2LMHeadModel has no linear layer besides its output layer to adapt"):
        MergedLoRA(gpt2, 2, 4.0)
    model = tiny()
    with pytest.raises(ValueError, match="rank must be"):
        MergedLoRA(model, 99, 4.0)
    assert all(p.requires_grad for p in model.parameters())
