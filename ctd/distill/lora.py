"""Low-rank adapters trained at the price of plain training: W = W0 + (alpha / rank) B A, kept merged.

Notes: LoRA is by Hu et al., arXiv:2106.09685. Adding B A x to every layer's output makes a small model half again
as slow on a CPU. Here each weight is the merged W, the backward pass gives dL/dW as in plain training, and the
chain rule takes it to A and B once a step: dL/dB = s dL/dW A^T, dL/dA = s B^T dL/dW with s = alpha / rank. `save`
writes what peft reads.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import peft
import torch
from safetensors.torch import save_file
from torch import nn

from ctd.cache import atomic


class MergedLoRA(nn.Module):
    """Adapters for every linear layer of a model but its output layer; A [rank, in] and B [out, rank] are float32.

    model: its other weights are frozen, its linear weights are overwritten by `merge`.
    rank: as in peft.
    alpha: as in peft; the adapters' product counts alpha / rank times.
    seed: draws A as peft does; B begins at zero.
    Raises ValueError for a model without linear layers, a rank out of range, or alpha not above 0.
    """

    def __init__(self, model: nn.Module, rank: int, alpha: float, seed: int = 0) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        head = getattr(model, "get_output_embeddings", lambda: None)()
        self.layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
        if not self.layers:
            raise ValueError(f"{type(model).__name__} has no linear layer besides its output layer to adapt")
        largest = min(min(layer.weight.shape) for layer in self.layers.values())
        if not 1 <= rank <= largest:
            raise ValueError(f"rank must be between 1 and {largest} (the smallest layer), got {rank}")
        if not alpha > 0:
            raise ValueError(f"alpha must be above 0, got {alpha}")
        model.requires_grad_(False)
        self.base = {name: layer.weight.detach().clone() for name, layer in self.layers.items()}
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        generator = torch.Generator().manual_seed(seed)
        for name, layer in self.layers.items():
            layer.weight.requires_grad_(True)
            rows, columns = layer.weight.shape
            down = torch.empty(rank, columns, dtype=torch.float32, device="cpu")
            nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
            self.a[_key(name)] = nn.Parameter(down.to(layer.weight.device))
            self.b[_key(name)] = nn.Parameter(torch.zeros(rows, rank, dtype=torch.float32, device=layer.weight.device))

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / self.rank

    @torch.no_grad()
    def merge(self) -> None:
        """Write W0 + s B A into the model, rounded once to the model's dtype."""
        for name, layer in self.layers.items():
            delta = self.b[_key(name)] @ self.a[_key(name)]
            layer.weight.copy_(delta.mul_(self.scale).add_(self.base[name]))

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Turn the gradients of the merged weights into those of A and B, and set the merged weights' to zero."""
        for name, layer in self.layers.items():
            a, b = self.a[_key(name)], self.b[_key(name)]
            if layer.weight.grad is None:
                continue
            grad = layer.weight.grad.float()
            b.grad, a.grad = self.scale * grad @ a.T, self.scale * b.T @ grad
            layer.weight.grad.zero_()

    def save(self, folder: Path, base: str, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write the adapter as a peft folder, whole or not at all.

        folder: replaced by the adapter's.
        base: name of the base model.
        dtype: what A and B are rounded to.
        """
        state = {}
        for name in self.layers:
            for letter, matrix in (("A", self.a[_key(name)]), ("B", self.b[_key(name)])):
                state[f"base_model.model.{name}.lora_{letter}.weight"] = matrix.detach().to("cpu", dtype).contiguous()
        config = peft.LoraConfig(
            base_model_name_or_path=base,
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft divides it by r
            target_modules=sorted({name.rpartition(".")[2] for name in self.layers}),
            task_type="CAUSAL_LM",
            inference_mode=True,
        )
        with atomic(folder) as scratch:
            scratch.mkdir()
            save_file(state, scratch / "adapter_model.safetensors", {"format": "pt"})
            # Not config.save_pretrained: it writes the set of target modules in an order that changes with each run.
            settings = json.dumps(config.to_dict(), default=sorted, indent=2, sort_keys=True)
            (scratch / "adapter_config.json").write_text(settings + "\n")


def _key(name: str) -> str:
    """A layer's name as a ParameterDict may hold it."""
    return name.replace(".", "/")
