"""What a family of models needs said is one entry."""

import pytest
import torch
import transformers

from ctd.reasoning import architecture
from ctd.reasoning.families import Family

SMALL = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}


def neox():
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SMALL))


def test_a_family_with_names_of_its_own_is_one_entry(monkeypatch):
    model = neox()
    monkeypatch.delitem(architecture.FAMILIES, "gpt_neox")
    with pytest.raises(
        ValueError, match=r"heads of GPTNeoXForCausalLM cannot .*: it has no self_attn.o_proj in its layers"
    ):
        architecture.output_projections(model)
    entry = Family(attention="attention", output="dense", final_norm="final_layer_norm")
    monkeypatch.setitem(architecture.FAMILIES, "gpt_neox", entry)
    layers = model.get_decoder().layers
    assert architecture.output_projections(model) == [layer.attention.dense for layer in layers]
    assert architecture.final_norm(model) is model.get_decoder().final_layer_norm


def test_attention_sinks_are_refused_by_the_family_and_by_the_call():
    config = transformers.GptOssConfig(
        **SMALL, num_key_value_heads=1, head_dim=4, num_local_experts=2, num_experts_per_tok=1
    )
    with pytest.raises(ValueError, match="attention sinks are not supported"):
        architecture.shape(transformers.GptOssForCausalLM(config))
    with pytest.raises(ValueError, match="attention sinks are not supported"):
        architecture.check_attention({"s_aux": 1.0})
    architecture.check_attention({"s_aux": None})


TINY = {
    "vocab_size": 61, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
WINDOWS = ["sliding_attention", "full_attention"] * 2


def tiny(kind, **changes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")
    known = set(config().to_dict()) | set(config.attribute_map)
    settings = {name: value for name, value in TINY.items() if name in known} | changes
    return transformers.AutoModelForCausalLM.from_config(config(**settings)).eval()


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("GPTJ", {"n_layer": 2, "n_head": 6, "rotary_dim": 4}, "it has no self_attn.o_proj in its layers"),
        ("Bloom", {"n_layer": 2, "n_head": 6}, "it has no self_attn.o_proj in its layers"),
        ("BitNet", {}, "layer 0: what its heads put out is changed .by a gate or a norm. before the output projection"),
        (
            "Gemma4Text",
            {
                "layer_types": WINDOWS, "sliding_window": 5, "global_head_dim": 16, "num_global_key_value_heads": 2,
                "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 61, "num_kv_shared_layers": 0,
            },
            r"its layers have heads of several sizes \(\(6, 2, 8\) and \(6, 2, 16\)\)",
        ),
        ("Doge", {"keep_window_size": 4}, "layer 0: its mask is made of float32 weights"),
    ],
)  # fmt: skip
def test_a_model_whose_heads_cannot_be_read_exactly_is_refused_with_the_reason(kind, changes, reason):
    model = tiny(kind, **changes)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"the heads of \w+ cannot be read and patched exactly: " + reason
        ) as error:
            architecture.shape(model)
        assert "\n" not in str(error.value)
    assert model.config._attn_implementation != "ctd-probe"


def test_attention_sinks_are_seen_on_the_model_itself(monkeypatch):
    monkeypatch.setattr(architecture, "FAMILIES", {})
    with pytest.raises(ValueError, match="layer 0: attention sinks are not supported"):
        architecture.shape(tiny("GptOss", num_local_experts=4, num_experts_per_tok=2))


@pytest.mark.parametrize(
    ("kind", "changes", "shape"),
    [
        ("Llama", {}, (4, 6, 2, 8, 48)),
        ("Gemma3Text", {"sliding_window": 5, "layer_types": WINDOWS, "query_pre_attn_scalar": 8}, (4, 6, 2, 8, 48)),
        (
            "MiniCPM3",
            {
                "num_key_value_heads": 6, "head_dim": None, "q_lora_rank": 16, "kv_lora_rank": 16,
                "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 6,
            },
            (4, 6, 6, 6, 48),
        ),
        ("GPT2", {}, (4, 6, 6, 8, 48)),
        ("NanoChat", {}, (4, 6, 2, 8, 48)),
    ],
)  # fmt: skip
def test_the_shape_is_that_of_the_heads_that_run(kind, changes, shape):
    model = tiny(kind, **changes).train()
    state = torch.random.get_rng_state()
    assert architecture.shape(model) == shape
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
