"""What each family of models calls its parts, and what stands between a head's write and the residual stream.

Notes: one entry a family. An entry is believed only as far as `ctd.reasoning.probe` finds it right on the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ctd.reasoning.probe import SINKS


@dataclass(frozen=True)
class Family:
    """How a family of models names what is read and patched.

    layers: the decoder's list of layers.
    attention: the attention module of a layer.
    output: the attention's output projection, W_O.
    final_norm: the decoder's last norm.
    post_norm: the layer's norm through which its attention writes, "" where there is none.
    factor: the layer's number by which what its attention writes is multiplied, "" where there is none.
    refused: why heads cannot be read, "" where they can.
    """

    layers: str = "layers"
    attention: str = "self_attn"
    output: str = "o_proj"
    final_norm: str = "norm"
    post_norm: str = ""
    factor: str = ""
    refused: str = ""


COMMON = Family()
POST_NORM = Family(post_norm="post_attention_layernorm")
SCALED = Family(factor="residual_multiplier")
OF_GPT2 = Family("h", "attn", "c_proj", "ln_f")
FAMILIES = {
    "bamba": Family(final_norm="final_layernorm"),
    "biogpt": Family(output="out_proj", final_norm="layer_norm"),
    "exaone4": POST_NORM,
    "falcon_h1": Family(final_norm="final_layernorm", factor="attn_out_multiplier"),
    "flex_olmo": POST_NORM,
    "gemma2": POST_NORM,
    "gemma3_text": POST_NORM,
    "gemma3n_text": POST_NORM,
    "glm4": Family(post_norm="post_self_attn_layernorm"),
    "gpt2": OF_GPT2,
    "gpt_bigcode": OF_GPT2,
    "gpt_neox": Family(attention="attention", output="dense", final_norm="final_layer_norm"),
    "gpt_oss": Family(refused=SINKS),
    "granite": SCALED,
    "granitemoe": SCALED,
    "granitemoehybrid": SCALED,
    "granitemoeshared": SCALED,
    "hyperclovax": Family(post_norm="post_norm1", factor="residual_multiplier"),
    "jamba": Family(final_norm="final_layernorm"),
    "kolibri1": Family(post_norm="post_self_attn_layernorm"),
    "lfm2": Family(output="out_proj", final_norm="embedding_norm"),
    "lfm2_moe": Family(output="out_proj", final_norm="embedding_norm"),
    "lfm3": Family(final_norm="embedding_norm", post_norm="post_operator_norm"),
    "minicpm3": Family(factor="residual_scale"),
    "olmo2": POST_NORM,
    "olmo3": POST_NORM,
    "olmo_hybrid": POST_NORM,
    "opt": Family(output="out_proj", final_norm="final_layer_norm"),
    "persimmon": Family(output="dense", final_norm="final_layernorm"),
    "phi": Family(output="dense", final_norm="final_layernorm"),
    "xglm": Family(output="out_proj", final_norm="layer_norm"),
}
