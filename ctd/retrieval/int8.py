"""BERT in whole numbers: the linear layers in int8, whose products take about half as long as in float32 on x86.

Notes: each output of a layer has a scale of its own, and so has each row of its input, whatever else is in the batch. A
few inputs of a transformer's layer are ten times as large as the others. They are divided by a factor before rounding,
and their weights multiplied by it (SmoothQuant, arXiv:2211.10438, equation 4). n texts, d dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

from ctd.int8_matmul import LARGEST_INPUT, LARGEST_WEIGHT, OFFSET, Int8Matrix

SMOOTHING = 0.5  # alpha of equation 4
LENGTHS = (4, 8, 16, 64)  # tokens of the random texts that show how large inputs are
TINY = 1e-6


def fits(module: Any) -> bool:
    """Whether a sentence-transformers module holds a model that `Int8Bert` can compute."""
    model = getattr(module, "auto_model", None)
    if not isinstance(model, BertModel):
        return False
    absolute = getattr(model.config, "position_embedding_type", "absolute") == "absolute"
    return absolute and model.config.hidden_act == "gelu" and not model.config.is_decoder


class Int8Linear(nn.Module):
    """A linear layer, or several that read the same input, in int8.

    layers: in float32; their outputs are put side by side.
    largest: the absolute value that each input may reach.
    """

    scale: Float[Tensor, " outputs"]
    shrink: Float[Tensor, " inputs"]
    bias: Float[Tensor, " outputs"]

    def __init__(self, layers: list[nn.Linear], largest: Float[Tensor, " inputs"]) -> None:
        super().__init__()
        weight = torch.cat([layer.weight for layer in layers])
        factor = largest.clamp_min(TINY) ** SMOOTHING / weight.abs().amax(0).clamp_min(TINY) ** (1 - SMOOTHING)
        scale = (weight * factor).abs().amax(1).clamp_min(TINY) / LARGEST_WEIGHT
        whole = (weight * factor / scale[:, None]).round().to(torch.int8)
        self.matrix = Int8Matrix(whole)
        self.register_buffer("scale", scale / LARGEST_INPUT)
        self.register_buffer("shrink", 1 / factor)
        self.register_buffer("bias", torch.cat([layer.bias for layer in layers]))

    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        smooth = inputs * self.shrink
        largest = smooth.abs().amax(1, keepdim=True).clamp_min_(TINY)
        whole = smooth.mul_(LARGEST_INPUT / largest).round_().add_(OFFSET).to(torch.uint8)
        outputs = self.matrix.product(whole).mul_(largest)
        return torch.addcmul(self.bias, outputs, self.scale, out=outputs)


class Int8Layer(nn.Module):
    """A transformer layer of BERT, for texts of one length.

    layer: in float32.
    largest: what each of its linear layers may be given.
    """

    def __init__(self, layer: Any, largest: dict[nn.Module, Float[Tensor, " inputs"]]) -> None:
        super().__init__()
        read, write = layer.attention.self, layer.attention.output
        self.n_heads = read.num_attention_heads
        self.read = Int8Linear([read.query, read.key, read.value], largest[read.query])
        self.write = Int8Linear([write.dense], largest[write.dense])
        self.widen = Int8Linear([layer.intermediate.dense], largest[layer.intermediate.dense])
        self.narrow = Int8Linear([layer.output.dense], largest[layer.output.dense])
        self.after_attention, self.after = write.LayerNorm, layer.output.LayerNorm

    def forward(self, states: Float[Tensor, "rows d"], length: int) -> Float[Tensor, "rows d"]:
        parts = self.read(states).view(-1, length, 3, self.n_heads, states.shape[1] // self.n_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(states.shape)
        states = self.after_attention(self.write(mixed).add_(states))
        return self.after(self.narrow(functional.gelu(self.widen(states))).add_(states))


class Int8Bert(nn.Module):
    """A BERT encoder in int8, in the place of sentence-transformers' own module. Takes texts of one length.

    bert: in float32, on the CPU; its embeddings are shared.
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        with torch.inference_mode():
            largest = _largest_inputs(bert)
            self.embeddings = bert.embeddings
            self.layers = nn.ModuleList(Int8Layer(layer, largest) for layer in bert.encoder.layer)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add "token_embeddings" [n, tokens, d] to "input_ids" [n, tokens]."""
        embedded = self.embeddings(features["input_ids"])
        states = embedded.flatten(0, 1)
        for layer in self.layers:
            states = layer(states, embedded.shape[1])
        return {**features, "token_embeddings": states.view_as(embedded)}


def _largest_inputs(bert: BertModel) -> dict[nn.Module, Float[Tensor, " inputs"]]:
    """The largest absolute values that each linear layer is given, in texts of random tokens."""
    largest: dict[nn.Module, Tensor] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0].flatten(0, -2).abs().amax(0)
        largest[layer] = torch.maximum(values, largest.get(layer, values))

    hooks = [part.register_forward_pre_hook(watch) for part in bert.encoder.modules() if isinstance(part, nn.Linear)]
    generator = torch.Generator().manual_seed(0)
    for length in LENGTHS:
        bert(torch.randint(bert.config.vocab_size, (1024 // length, length), generator=generator))
    for hook in hooks:
        hook.remove()
    return largest
