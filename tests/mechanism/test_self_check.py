"""Models with one fault planted each: `ctd check-model` names it, and a whole model has none."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from typer.testing import CliRunner

from ctd.cli import app
from ctd.mechanism import attention, self_check
from ctd.reasoning import models, teachers, write_batch
from ctd.reasoning.families import COMMON, FAMILIES
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.teachers import Teacher
from ctd.recipes import tiny_models

pytestmark = pytest.mark.usefixtures("own_cache")
LAYERS = {"num_hidden_layers": 2}


def language_model(kind="llama", **changes):
    layers = LAYERS if kind == "llama" else {}
    return LanguageModel("m", tiny_models.build(kind, **layers | changes), tiny_models.tokenizer(), "a tiny model")


def check_model(model, monkeypatch):
    """What `ctd check-model` says of a model that is already loaded."""
    monkeypatch.setattr(teachers, "load", lambda _: Teacher(model, False, 512, {}, None))
    result = CliRunner().invoke(app, ["check-model", "m"], env={"COLUMNS": "400"})
    return " ".join(result.output.split()), result.exit_code


def test_a_whole_model_has_no_fault(monkeypatch):
    report, code = check_model(language_model("gemma2"), monkeypatch)
    assert "writes yes lists are kept to labels yes heads are read and patched yes: 4 layers of 4 heads of 8" in report
    assert code == 0
    self_check.require(language_model("gemma2"), heads=True)


def test_forced_rows_are_written_with_the_models_own_logits():
    model = language_model().model
    rows = torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(0))
    prompts = {"input_ids": rows[:, :5], "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    written = write_batch.greedily(model, 4, **prompts, forced=rows)
    assert written.sequences.tolist() == rows.tolist()
    with torch.no_grad():
        whole = model(rows).logits[:, 4:-1]
    assert torch.allclose(torch.stack(written.logits, 1), whole, atol=1e-4)


def wrapped(module, change):
    """The module's forward, changed: change(forward, args, options)."""
    forward = module.forward
    module.forward = lambda *args, **options: change(forward, args, options)


def swapped_layers(model, _):
    model.model.layers = torch.nn.ModuleList([model.model.layers[1], model.model.layers[0]])


def one_number_for_two_layers(model, _):
    model.model.layers[1].self_attn.layer_idx = 0


def a_layer_that_is_not_run(model, _):
    model.config.num_hidden_layers = 1


def a_gate(model, _):
    model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(lambda _, args: (args[0] * 0.5,))


def a_factor(model, _):
    model.model.layers[1].self_attn.register_forward_hook(lambda _, __, output: (output[0] * 2, *output[1:]))


def attention_that_is_called_twice(model, _):
    wrapped(model.model.layers[0].self_attn, lambda f, a, o: (f(*a, **o), f(*a, **o))[0])


def sinks(model, _):
    wrapped(model.model.layers[0].self_attn, lambda f, a, o: f(*a, **o, s_aux=torch.zeros(4)))


def an_eye_for_what_comes(model, _):
    model.model.embed_tokens.register_forward_hook(lambda _, __, output: output + output.mean(1, keepdim=True))


def deaf_to_padding(model, _):
    wrapped(model, lambda f, a, o: f(*a, **o | {"attention_mask": None}))


def forgetful_of_positions(model, _):
    wrapped(
        model.model.rotary_emb,
        lambda f, a, o: f(a[0], position_ids=o["position_ids"] * 0 + torch.arange(a[0].shape[1])),
    )


def weights_that_overflow(model, _):
    model.model.layers[1].mlp.up_proj.weight.data.fill_(1e38)


def scores_of_its_own(model, _):
    def attend(forward, args, options):
        attn = model.model.layers[1].self_attn
        before, attn.scaling = attn.scaling, attn.scaling * (1 if model.config._attn_implementation == "sdpa" else 2)
        try:
            return forward(*args, **options)
        finally:
            attn.scaling = before

    wrapped(model.model.layers[1].self_attn, attend)


def a_norm_that_is_not_known(_, monkeypatch):
    monkeypatch.setitem(FAMILIES, "gemma2", COMMON)


def a_window_ignored(_, monkeypatch):
    def whole(*args, **options):
        return sdpa_mask(*args, **options | {"mask_function": lambda batch, head, query, key: key <= query})

    for name in ("ctd-probe", "ctd"):
        monkeypatch.setitem(AttentionMaskInterface._global_mapping, name, whole)


def patches_of_another_layer(_, monkeypatch):
    modules = attention.attention_modules
    monkeypatch.setattr(attention, "attention_modules", lambda model: modules(model)[::-1])


def patches_that_miss_what_is_written(_, monkeypatch):
    monkeypatch.setattr(attention, "_note_position", lambda *_: None)


@pytest.mark.parametrize(
    ("kind", "plant", "says"),
    [
        ("llama", swapped_layers, "layer 1: it calls itself layer 0 behind layer 1"),
        ("llama", one_number_for_two_layers, "cannot be asked: it cannot be run (RuntimeError"),
        ("llama", a_layer_that_is_not_run, "layer 1: its attention is called 0 times"),
        ("llama", a_gate, "layer 1: what its heads put out is changed (by a gate or a norm)"),
        ("llama", a_factor, "layer 1: what its attention writes is not what the residual stream gains"),
        ("llama", attention_that_is_called_twice, "cannot be asked: it cannot be run (RuntimeError"),
        ("llama", sinks, "layer 0: attention sinks are not supported"),
        ("llama", an_eye_for_what_comes, "a token changes the logits of tokens before it"),
        ("llama", deaf_to_padding, "a text with padding before it is read otherwise than alone"),
        ("llama", forgetful_of_positions, "one by one are read otherwise than in one pass"),
        ("llama", weights_that_overflow, "no finite numbers"),
        ("llama", scores_of_its_own, "its logits are others when its attention is computed"),
        (
            "gemma2",
            a_norm_that_is_not_known,
            "layer 0: what its attention writes is not what the",
        ),
        ("mistral", a_window_ignored, "its logits are others when its attention is computed"),
        ("llama", patches_of_another_layer, "layer 0: the writes of its heads do not sum to what its attention adds"),
        ("llama", patches_that_miss_what_is_written, "a patch does not reach what is written"),
    ],
)
def test_a_fault_of_a_model_is_named(kind, plant, says, monkeypatch):
    broken = language_model(kind)
    plant(broken.model, monkeypatch)
    report, code = check_model(broken, monkeypatch)
    assert says in report
    assert ("cannot be asked" in report) == (code == 1)
    assert "Traceback" not in report


def no_end(tokenizer):
    tokenizer.eos_token = None


def small_letters(tokenizer):
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def a_template_without_the_question(tokenizer):
    tokenizer.chat_template = "{{ 'user: ' }}"


def a_template_that_fails(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no such role') }}"


def a_beginning_that_is_written_twice(tokenizer):
    from tokenizers import processors

    tokenizer.bos_token = "<pad>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A", special_tokens=[("<pad>", 256)]
    )
    tokenizer.chat_template = "{{ '<pad><pad>' + messages[0]['content'] }}"


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (no_end, "no token that it can write ends a text"),
        (small_letters, "its tokenizer changes texts: 'Document: ' comes back as 'document: '"),
        (a_template_without_the_question, "its chat template leaves out what is asked"),
        (a_template_that_fails, "its chat template cannot be used: no such role"),
        (a_beginning_that_is_written_twice, "its prompt begins with <pad> 2 times"),
    ],
)
def test_a_fault_of_a_tokenizer_is_named(plant, says, monkeypatch):
    broken = language_model()
    plant(broken.tokenizer)
    if plant is no_end:
        broken.model.generation_config.eos_token_id = None
    report, code = check_model(broken, monkeypatch)
    assert says in report
    assert code == 1


def rewritten(change):
    def plant(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return plant


def norm_left_out(weights):
    del weights["model.layers.1.input_layernorm.weight"]


def a_layer_too_many(weights):
    weights["model.layers.2.input_layernorm.weight"] = weights["model.layers.1.input_layernorm.weight"].clone()


def packed_to_eight_bits(weights):
    weights["model.layers.0.mlp.up_proj.weight_scale"] = torch.ones(1)


def no_numbers(weights):
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.nan


def a_head_of_its_own(weights):
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1


def fewer_rows(weights):
    weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"][:5].clone()


def more_tokens(folder):
    tokenizer = tiny_models.tokenizer()
    tokenizer.add_tokens([f"<{n}>" for n in range(50)])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (rewritten(norm_left_out), "lack 1 tensors of LlamaForCausalLM, model.layers.1.input_layernorm.weight first"),
        (rewritten(a_layer_too_many), "have 1 tensors too many for LlamaForCausalLM, model.layers.2.input_layernorm"),
        (rewritten(packed_to_eight_bits), "have 1 tensors too many for LlamaForCausalLM, model.layers.0.mlp.up_proj"),
        (rewritten(no_numbers), "are no finite numbers, model.layers.0.mlp.up_proj.weight first"),
        (rewritten(fewer_rows), "could not be read as a causal language model"),
        (more_tokens, "has the token"),
    ],
)
def test_a_fault_of_a_folder_is_named(plant, says, tmp_path):
    whole = language_model(tie_word_embeddings=True)
    whole.model.save_pretrained(tmp_path / "m")
    whole.tokenizer.save_pretrained(tmp_path / "m")
    plant(tmp_path / "m")
    result = CliRunner().invoke(app, ["check-model", str(tmp_path / "m")])
    report = " ".join((result.output + str(result.exception or "")).split())
    assert says in report
    assert result.exit_code != 0


def test_a_head_of_its_own_in_the_file_of_a_tied_model_is_used_not_dropped(tmp_path):
    tied = language_model(tie_word_embeddings=True)
    tied.model.save_pretrained(tmp_path)
    tied.tokenizer.save_pretrained(tmp_path)
    rewritten(a_head_of_its_own)(tmp_path)
    model = models.load(str(tmp_path), dtype="float32", device="cpu").model
    file = load_file(tmp_path / "model.safetensors")
    assert torch.equal(model.lm_head.weight, file["lm_head.weight"])
    assert torch.equal(model.model.embed_tokens.weight, file["model.embed_tokens.weight"])


def test_what_was_found_is_kept_by_the_models_key(monkeypatch):
    whole = language_model()
    self_check.check(whole)
    monkeypatch.setattr(self_check, "run", None)
    assert [finding.problem for finding in self_check.check(whole)] == [""] * len(self_check.CHECKS)


def test_a_model_whose_heads_are_refused_can_still_write(monkeypatch):
    falcon = language_model("falcon")
    self_check.require(falcon)
    with pytest.raises(ValueError, match=r"the heads of m cannot be read .*: it has no self_attn.* It can write texts"):
        self_check.require(falcon, heads=True)
