"""What is recorded and patched, held against TransformerLens where it is installed (extra `crosscheck`)."""

import pytest
import torch

from ctd.cache import DATA
from ctd.mechanism import attention, attention_patches
from ctd.mechanism.attention import Head
from ctd.reasoning import architecture, models

pytest.importorskip("transformer_lens", reason="pip install .[crosscheck]")

HEADS = [Head(0, 3), Head(2, 1), Head(2, 5), Head(4, 0)]


@pytest.fixture(scope="module")
def ours():
    return models.load("organism", dtype="float32").model.eval()


@pytest.fixture(scope="module")
def bridge(ours):
    from transformer_lens.model_bridge import TransformerBridge

    copy = type(ours).from_pretrained(DATA / "organism", dtype=torch.float32, attn_implementation="eager").eval()
    return TransformerBridge.boot_transformers(str(DATA / "organism"), hf_model=copy, device="cpu")


@pytest.fixture(scope="module")
def ids():
    return torch.randint(300, 4000, (2, 40), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_patterns_and_writes_are_theirs(ours, bridge, ids):
    with attention.record(ours, outputs=True) as seen:
        logits = ours(input_ids=ids).logits
    expected, cache = bridge.run_with_cache(ids)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    for layer in range(6):
        torch.testing.assert_close(
            seen.patterns[layer][0], cache[f"blocks.{layer}.attn.hook_pattern"], atol=1e-4, rtol=0
        )
        z = cache[f"blocks.{layer}.attn.hook_z"].reshape(2, 40, 6, -1)
        torch.testing.assert_close(seen.outputs[layer][0], z, rtol=1e-3, atol=1e-4)
        writes = torch.einsum("bqhc,dhc->bqd", seen.outputs[layer][0], architecture.output_weights(ours, layer))
        torch.testing.assert_close(writes, cache[f"blocks.{layer}.hook_attn_out"], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_patched_logits_are_theirs(ours, bridge, ids):
    heads = torch.zeros(2, 6, 6, dtype=torch.bool)
    for layer, head in HEADS:
        heads[0, layer, head] = True
    with attention_patches.patch(ours, heads, [1, 1]):
        patched = ours(input_ids=ids).logits[0]
    _, cache = bridge.run_with_cache(ids[1:])

    def swap(layer):
        def hook(pattern, hook):
            for head in (head for place, head in HEADS if place == layer):
                pattern[:, head] = cache[f"blocks.{layer}.attn.hook_pattern"][:, head]
            return pattern

        return hook

    hooks = [(f"blocks.{layer}.attn.hook_pattern", swap(layer)) for layer in {layer for layer, _ in HEADS}]
    expected = bridge.run_with_hooks(ids[:1], fwd_hooks=hooks)[0]
    assert not torch.allclose(patched, ours(input_ids=ids).logits[0], atol=1e-2)
    torch.testing.assert_close(patched, expected, rtol=1e-3, atol=1e-3)
