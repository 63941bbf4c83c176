"""The margin's gradient, against autograd and the formula of the norm."""

import torch

from ctd.mechanism import writes


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
