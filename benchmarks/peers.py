"""What does it take to record every head, its attention pattern and its output, beside TransformerLens and nnsight?

The model is the organism, in float32 on one thread, over one batch. On the machine of this book ctd took 1.2 times as
long as TransformerLens and as nnsight: they switch the model to the attention that yields its patterns, while ctd
leaves the model as it is and computes patterns beside it, of those heads alone that are asked for. Training steps of
TRL are not compared.

The peers are not among the requirements, and `make bench` leaves them out. They go into a folder of their own:

    pip install --no-deps --target peers transformer-lens==4.3.0 nnsight==0.8.1 einops fancy_einsum better_abc \
        beartype astor
    PYTHONPATH=peers python benchmarks/peers.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ctd.book import benchmarks
from ctd.cache import DATA
from ctd.mechanism import attention
from ctd.reasoning import models

PLAIN, LENS, NNSIGHT, CTD = "plain forward pass", "TransformerLens", "nnsight", "ctd"


def ways(ids: torch.Tensor) -> dict[str, Any]:
    """Who records the heads, by name; each returns the pattern of the first layer, or the logits."""
    from nnsight import NNsight
    from transformer_lens.model_bridge import TransformerBridge

    ours, folder = models.load("organism", dtype="float32").model.eval(), DATA / "organism"

    def eager() -> Any:
        return type(ours).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    lens = TransformerBridge.boot_transformers(str(folder), hf_model=eager(), device="cpu")
    traced = NNsight(eager())

    def by_ctd() -> torch.Tensor:
        with attention.record(ours, outputs=True) as seen:
            ours(input_ids=ids)
        return seen.patterns[0][0]

    def by_lens() -> torch.Tensor:
        _, cache = lens.run_with_cache(ids, names_filter=lambda name: name.endswith(("hook_pattern", "attn.hook_z")))
        return cache["blocks.0.attn.hook_pattern"]

    def by_nnsight() -> torch.Tensor:
        with traced.trace(input_ids=ids):
            outputs, patterns = list().save(), list().save()  # noqa: C408 (nnsight keeps a list that it is given this way)
            for layer in traced.model.layers:
                outputs.append(layer.self_attn.o_proj.input)
                patterns.append(layer.self_attn.output[1])
        assert len(outputs) == len(ours.model.layers)
        return patterns[0]

    return {PLAIN: lambda: ours(input_ids=ids).logits, LENS: by_lens, NNSIGHT: by_nnsight, CTD: by_ctd}


@torch.no_grad()
def main(
    rows: Annotated[int, typer.Option(min=1, help="texts of the batch")] = 8,
    tokens: Annotated[int, typer.Option(min=2, help="of each text")] = 256,
    runs: Annotated[int, typer.Option(min=1, help="turns; medians are kept")] = benchmarks.RUNS,
    out: Annotated[Path, typer.Option(help="folder for record.json")] = benchmarks.FOLDER,
) -> None:
    """Check that all record the same, time them in turns, and keep the rows."""
    torch.set_num_threads(1)
    ids = torch.randint(300, 4000, (rows, tokens), generator=torch.Generator().manual_seed(0))
    compared = ways(ids)
    for peer in (LENS, NNSIGHT):
        torch.testing.assert_close(compared[peer](), compared[CTD](), atol=1e-4, rtol=0)
    work = benchmarks.Work("record", "tokens", rows * tokens)
    found = benchmarks.compare(work, compared, LENS, runs)
    ratio = next(row for row in benchmarks.compare(work, {n: compared[n] for n in (NNSIGHT, CTD)}, NNSIGHT, runs)
                 if row.way == CTD)  # fmt: skip
    benchmarks.keep("record", [*found, ratio], out)


if __name__ == "__main__":
    typer.run(main)
