"""What does it cost to record heads, as texts grow, and to patch them, the more they are? Beside other libraries.

The model is the organism, in float32 on one thread. Recorded are every head's attention pattern and output. Patched
are the outputs of heads, each with that of the batch's first text. The peers switch the model to the attention that
yields its patterns, while ctd leaves the model as it is and computes patterns beside it, a block of queries at a time.
TransformerLens and nnsight are compared where they are installed: `pip install .[crosscheck]`, or into a folder of
their own:

    pip install --no-deps --target peers transformer-lens==4.3.0 nnsight==0.8.1 einops fancy_einsum better_abc \
        beartype astor
    PYTHONPATH=peers python benchmarks/heads.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ctd.book import benchmarks
from ctd.cache import DATA
from ctd.mechanism import attention, attention_patches
from ctd.reasoning import architecture, models

PLAIN, LENS, NNSIGHT, CTD = "plain forward pass", "TransformerLens", "nnsight", "ctd"
TEXTS = 4  # of a batch
LENGTH = 128  # tokens of a text whose heads are patched

Way = Callable[[], torch.Tensor]


class Models:
    """The same model, as each library has it; the peers' only where they are installed."""

    def __init__(self) -> None:
        self.model = models.load("organism", dtype="float32").model.eval()
        self.n_layers, self.n_heads = architecture.shape(self.model)[:2]
        self.lens = self.traced = None
        if find_spec("transformer_lens"):
            from transformer_lens.model_bridge import TransformerBridge

            self.lens = TransformerBridge.boot_transformers(
                str(DATA / "organism"), hf_model=self._eager(), device="cpu"
            )
        if find_spec("nnsight"):
            from nnsight import NNsight

            self.traced = NNsight(self._eager())

    def _eager(self) -> Any:
        return type(self.model).from_pretrained(
            DATA / "organism", dtype=torch.float32, attn_implementation="eager"
        ).eval()  # fmt: skip

    def recording(self, ids: torch.Tensor) -> dict[str, Way]:
        """Ways to record every head; each returns the patterns of the first layer, the plain pass its logits."""
        ways: dict[str, Way] = {PLAIN: partial(self._plain, ids), CTD: partial(self._record, ids)}
        if self.lens is not None:
            ways[LENS] = partial(self._record_by_lens, ids)
        if self.traced is not None:
            ways[NNSIGHT] = partial(self._record_by_nnsight, ids)
        return ways

    def patching(self, ids: torch.Tensor, heads: list[attention.Head]) -> dict[str, Way]:
        """Ways to patch some heads of all texts but the first; each returns the logits."""
        by_layer: dict[int, list[int]] = {}
        for layer, head in heads:
            by_layer.setdefault(layer, []).append(head)
        ways: dict[str, Way] = {PLAIN: partial(self._plain, ids), CTD: partial(self._patch, ids, heads)}
        if self.lens is not None:
            ways[LENS] = partial(self._patch_by_lens, ids, by_layer)
        if self.traced is not None:
            ways[NNSIGHT] = partial(self._patch_by_nnsight, ids, by_layer)
        return ways

    def _plain(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids).logits

    def _record(self, ids: torch.Tensor) -> torch.Tensor:
        with attention.record(self.model, outputs=True) as recording:
            self.model(input_ids=ids)
        return recording.patterns[0][0]

    def _record_by_lens(self, ids: torch.Tensor) -> torch.Tensor:
        names = ("hook_pattern", "attn.hook_z")
        _, cache = self.lens.run_with_cache(ids, names_filter=lambda name: name.endswith(names))
        return cache["blocks.0.attn.hook_pattern"]

    def _record_by_nnsight(self, ids: torch.Tensor) -> torch.Tensor:
        with self.traced.trace(input_ids=ids):
            outputs, patterns = list().save(), list().save()  # noqa: C408 (nnsight keeps a list that it is given this way)
            for layer in self.traced.model.layers:
                outputs.append(layer.self_attn.o_proj.input)
                patterns.append(layer.self_attn.output[1])
        assert len(outputs) == self.n_layers
        return patterns[0]

    def _patch(self, ids: torch.Tensor, heads: list[attention.Head]) -> torch.Tensor:
        chosen = torch.zeros(len(ids), self.n_layers, self.n_heads, dtype=torch.bool)
        for layer, head in heads:
            chosen[1:, layer, head] = True
        with attention_patches.patch(self.model, chosen, [0] * len(ids), "output"):
            return self._plain(ids)

    def _patch_by_lens(self, ids: torch.Tensor, by_layer: dict[int, list[int]]) -> torch.Tensor:
        def put_in(output: torch.Tensor, hook: Any, heads: list[int]) -> torch.Tensor:
            output[1:, :, heads] = output[:1, :, heads]
            return output

        hooks = [(f"blocks.{layer}.attn.hook_z", partial(put_in, heads=heads)) for layer, heads in by_layer.items()]
        return self.lens.run_with_hooks(ids, fwd_hooks=hooks)

    def _patch_by_nnsight(self, ids: torch.Tensor, by_layer: dict[int, list[int]]) -> torch.Tensor:
        with self.traced.trace(input_ids=ids):
            for layer, heads in sorted(by_layer.items()):
                joined = self.traced.model.layers[layer].self_attn.o_proj.input
                output = joined.unflatten(-1, (self.n_heads, -1))
                output[1:, :, heads] = output[:1, :, heads]
            logits = self.traced.lm_head.output.save()
        return logits  # noqa: RET504 (nnsight fills it when the block ends)


def compare(work: benchmarks.Work, ways: dict[str, Way], runs: int) -> list[benchmarks.Row]:
    """Check that all compute the same, and time them in turns."""
    for peer in ways.keys() - {PLAIN, CTD}:
        torch.testing.assert_close(ways[peer](), ways[CTD](), atol=1e-3, rtol=0)
    return benchmarks.compare(work, ways, LENS if LENS in ways else PLAIN, runs)


@torch.no_grad()
def main(
    runs: Annotated[int, typer.Option(min=1, help="turns; medians are kept")] = benchmarks.RUNS,
    out: Annotated[Path, typer.Option(help="folder for record.json and patch.json")] = benchmarks.FOLDER,
    longest: Annotated[int, typer.Option(min=32, help="tokens of a text that is recorded, at most")] = 512,
) -> None:
    """Time each, and keep the rows."""
    torch.set_num_threads(1)
    compared = Models()
    parameters = sum(weight.numel() for weight in compared.model.parameters())
    ids = torch.randint(300, 4000, (TEXTS, longest), generator=torch.Generator().manual_seed(0))
    rows = []
    for length in (size for size in (32, 128, 512) if size <= longest):
        n_tokens = TEXTS * length
        work = benchmarks.Work("record", "tokens", n_tokens, 2.0 * parameters * n_tokens)
        rows += compare(work, compared.recording(ids[:, :length]), runs)
    benchmarks.keep("record", rows, out)
    every, rows = attention.all_heads(compared.model), []
    operations = 2.0 * parameters * TEXTS * min(LENGTH, longest)
    for n in (1, 4, 16, len(every)):
        work = benchmarks.Work("patch", "heads", n, operations)
        rows += compare(work, compared.patching(ids[:, :LENGTH], every[::-1][:n]), runs)
    benchmarks.keep("patch", rows, out)


if __name__ == "__main__":
    typer.run(main)
