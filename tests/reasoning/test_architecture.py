"""What a family of models needs said is one entry."""

import pytest
import transformers

from ctd.reasoning import architecture
from ctd.reasoning.architecture import Family

SMALL = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}


def neox():
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SMALL))


def test_a_family_with_names_of_its_own_is_one_entry(monkeypatch):
    model = neox()
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
