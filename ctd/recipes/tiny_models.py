"""Tiny random models of every decoder-only family of the library, and a tokenizer for them: what the sweep checks.

Notes: sizes are the least at which a family's parts differ (several heads, fewer key heads, short windows, a few
experts, each kind of layer). Weights are drawn so that attention is uneven and norms are not one.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

LAYERS = 4
LARGEST = 3_000_000  # parameters: a family that has more was not made small
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024, "pad_token_id": 256, "bos_token_id": 257,
    "eos_token_id": 257, "sliding_window": 5, "attention_chunk_size": 5, "query_pre_attn_scalar": 8,
    "n_positions": 1024, "n_ctx": 1024, "max_window_layers": 2, "rotary_dim": 4, "ffn_hidden_size": 48, "ffn_dim": 48,
    "word_embed_proj_dim": 32, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4,
    "num_experts_per_tok": 2, "moe_k": 2, "moe_topk": 2, "moe_intermediate_size": 16, "intermediate_size_mlp": 48,
    "shared_expert_intermediate_size": 16, "expert_ffn_hidden_size": 16, "zero_expert_num": 2, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1, "num_shared_experts": 1, "q_lora_rank": 16,
    "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 6, "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_head_dim": 8,
    "linear_num_heads": 4, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300,
    "num_kv_shared_layers": 0, "laurel_rank": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4,
    "mamba_n_groups": 1, "mamba_d_ssm": 64, "mamba_expand": 2, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1,
    "ssm_state_size": 4, "state_size": 4, "num_nextn_predict_layers": 0, "router_hidden_size": 16, "dim_ff": 48,
    "dim_head": 8, "num_dense_layers": 1,
}  # fmt: skip
ALL_HEADS = {"num_key_value_heads": 4}  # latent attention has a key head each
HYBRID = ["linear_attention", "full_attention"] * 2
INKLING2 = {
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8, "d_rel": 4, "rel_extent": 8,
    "unpadded_vocab_size": 300, "n_layers_per_attn_res_block": 1, "layer_types": ["hybrid_sliding", "hybrid"] * 2,
}  # fmt: skip
OF_FAMILY: dict[str, dict[str, Any]] = {
    "axk1": ALL_HEADS, "axk2": ALL_HEADS, "bailing_hybrid": ALL_HEADS, "deepseek_v2": ALL_HEADS,
    "deepseek_v3": ALL_HEADS, "deepseek_v32": ALL_HEADS, "glm4_moe_lite": ALL_HEADS, "glm_moe_dsa": ALL_HEADS,
    "minicpm3": ALL_HEADS, "youtu": ALL_HEADS, "kimi_linear": ALL_HEADS,
    "longcat_flash": {"num_key_value_heads": 4, "num_layers": 2, "head_dim": 4},
    "gemma4_text": {"global_head_dim": 16}, "gemma4_unified_text": {"global_head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4, "window_size": 5},
    "dbrx": {
        "d_model": 32, "n_heads": 4, "n_layers": 2,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48},
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
    "bamba": {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"layer_types": HYBRID}, "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "ctrl": {"dff": 48}, "xlnet": {"d_head": 8, "d_inner": 48}, "zaya": {"num_experts_per_tok": 1},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("sliding_attention", "full_attention")
        },
    },
    "dots3_note_text": {
        "num_key_value_heads": 4, "kv_lora_rank": 16, "index_n_heads": 2, "index_head_dim": 8, "swa_head_dim": 8,
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16,
        "swa_qk_nope_head_dim": 4, "swa_v_head_dim": 8, "shared_experts_intermediate_size": 16,
    },
    "qwen4_exp_text": {
        "layer_types": ["linear_attention", "indexed_attention"] * 2, "indexer_n_heads": 2, "indexer_kv_heads": 1,
        "indexer_head_dim": 8, "indexer_budget": 4, "indexer_compress_ratio": 2,
    },
    "inkling2_text": INKLING2,
    "inkling2_loop_text": INKLING2 | {"loop_layer_index_start": 1, "loop_layer_index_end": 3, "loop_gate_rank": 4},
    "zamba": {"layer_types": ["linear_attention", "hybrid"] * 2, "n_mamba_heads": 2, "attention_head_dim": 16},
    "zamba2": {"layer_types": ["linear_attention", "hybrid"] * 2, "mamba_ngroups": 1, "n_mamba_heads": 8},
}  # fmt: skip

LEFT_OUT = {  # sizes that cannot be set, or are others' sum
    "axk1": {"head_dim"}, "deepseek_v3": {"head_dim"}, "falcon": {"head_dim"},
    "xlnet": {"max_position_embeddings"},
    "xlstm": {"v_head_dim"}, "youtu": {"head_dim"},
}  # fmt: skip


def families() -> list[str]:
    """The names of the library's decoder-only families, in the order of the alphabet.

    Left out are decoders of another model's encoder, encoders that can be turned into decoders, and models of pictures
    or sound, whose text part is a family of its own.
    """
    causal = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return sorted(kind for kind in causal if _is_decoder_only(kind))


def _is_decoder_only(kind: str) -> bool:
    settings = transformers.CONFIG_MAPPING[kind]
    parts = {name for name in getattr(settings, "sub_configs", {}) if name not in ("attn_config", "ffn_config")}
    fields = vars(settings)
    encodes = fields.get("is_encoder_decoder") or ("is_decoder" in fields and not kind.startswith("gpt_neox"))
    return not parts and not encodes and not kind.endswith("assistant")


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, one for padding and one that ends a text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*letters, "<pad>", "<end>"])}
    by_byte = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    by_byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    by_byte.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=by_byte, pad_token="<pad>", eos_token="<end>", padding_side="left")


def build(kind: str, **changes: Any) -> Any:
    """A tiny random model of a family; float32, in eval mode.

    kind: as the library calls the family.
    changes: settings of its configuration other than the usual ones.
    Raises ValueError where the settings do not make it small.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = _settings(kind, changes)
        with torch.device("meta"):
            size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(settings).parameters())
        if size > LARGEST:
            raise ValueError(f"{kind} has {size:,} parameters: give its sizes in OF_FAMILY")
        model: Any = AutoModelForCausalLM.from_config(settings).float().eval()
        draw(model)
    return model


@torch.no_grad()
def draw(model: Any, seed: int = 1) -> None:
    """Draw a model's weights so that every part of it matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator)
        if weight.ndim >= 2:
            weight.copy_(drawn / weight.shape[-1] ** 0.5)
        elif "norm" in name:
            weight.add_(0.3 * drawn)
        elif "bias" in name or not weight.isfinite().all():
            weight.copy_(0.3 * drawn)


def _settings(kind: str, changes: dict[str, Any]) -> Any:
    settings = transformers.CONFIG_MAPPING[kind]
    usual: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # a few have no usual ones
        usual = AutoConfig.for_model(kind).to_dict()
    known = {*(usual or vars(settings)), *getattr(settings, "attribute_map", {})} - LEFT_OUT.get(kind, set())
    values = {name: value for name, value in SIZES.items() if name in known}
    if kinds := usual.get("layer_types"):
        values["layer_types"] = (list(dict.fromkeys(kinds)) * LAYERS)[:LAYERS]
    return settings(**{"vocab_size": 300, **values, **OF_FAMILY.get(kind, {}), **changes})
