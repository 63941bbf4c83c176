"""Writes against the residual stream; the margin's gradient against autograd and the formula of the norm."""

import pytest
import torch

from ctd.mechanism import attention, writes
from ctd.reasoning import architecture
from tests.mechanism.test_attention import batch, build_model


@pytest.mark.parametrize("family", ["llama", "granite", "olmo2", "gemma3"])
@torch.no_grad()
def test_the_writes_of_a_layer_sum_to_what_the_residual_stream_gains(family):
    """Told from the outside: the residual stream before and behind the attention of the first layer."""
    model = build_model(family, **({"residual_multiplier": 0.3} if family == "granite" else {}))
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.uniform_(0.5, 2)
    layer, stream = model.get_decoder().layers[0], []
    layer.register_forward_pre_hook(lambda _, args: stream.append(args[0]))
    layer.mlp.register_forward_hook(lambda _, __, output: output * 0)
    layer.register_forward_hook(lambda _, __, output: stream.append(output))
    with attention.record(model, patterns=False, outputs=True) as seen:
        model(**batch(1))
    outputs = seen.outputs[0][0][0]
    gained, total = (stream[-1] - stream[-2])[0], writes.Writes(model)
    u = torch.randn(gained.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(total.along(0, outputs, u).sum(-1), (gained * u).sum(-1), rtol=1e-3, atol=1e-4)
    scale = architecture.write_scale(model, 0, outputs)
    each = torch.einsum("nhc,dhc->nhd", outputs, architecture.output_weights(model, 0))
    each = each if scale is None else each * scale[..., None]
    torch.testing.assert_close(each.norm(dim=-1), total.lengths(0, outputs), rtol=1e-3, atol=1e-4)
    cosine = torch.cosine_similarity(each, u[0], dim=-1)
    torch.testing.assert_close(total.cosines(0, outputs, u[0]), cosine, rtol=1e-3, atol=1e-4)


def test_the_margins_gradient_is_autograds_and_the_formula_of_the_norm(llama):
    hidden = 3 * torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    gold, near = [3, 7, 9, 1, 2], [4, 8, 9, 3, 30]
    ours = writes.margin_gradient(llama, hidden, gold, near)
    norm, weight = llama.get_decoder().norm, llama.get_output_embeddings().weight
    norm.weight.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
    ours = writes.margin_gradient(llama, hidden, gold, near)
    u = (weight[gold] - weight[near]) * norm.weight
    length = (hidden**2).mean(-1, keepdim=True) + norm.variance_epsilon
    formula = u / length.sqrt() - hidden * (hidden * u).sum(-1, keepdim=True) / (48 * length**1.5)
    torch.testing.assert_close(ours, formula, rtol=1e-4, atol=1e-5)
    assert (ours[2] == 0).all()
