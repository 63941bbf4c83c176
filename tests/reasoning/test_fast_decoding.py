"""A model that is made fast computes what it computes otherwise, and is as it was afterwards."""

import pytest
import torch

from ctd.reasoning import fast_decoding as fast
from tests.reasoning.test_generate import byte_level, tiny

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


@pytest.fixture
def model():
    return tiny(byte_level()).model


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 2, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_the_same_whatever_number_of_rows_the_weights_are_packed_for(model, rows, dtype):
    model.to(dtype)
    expected = model(IDS).logits
    with fast.fast_decoding(model, rows):
        torch.testing.assert_close(model(IDS).logits, expected)


@torch.inference_mode()
def test_weights_that_changed_before_are_the_ones_that_count_and_nothing_is_left_behind(model):
    with fast.fast_decoding(model, 2):
        before = model(IDS).logits
    model.lm_head.weight.mul_(2)
    with pytest.raises(KeyError), fast.fast_decoding(model, 2):
        torch.testing.assert_close(model(IDS).logits, 2 * before, rtol=1e-4, atol=1e-4)
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())
    assert model.config._attn_implementation == "sdpa"


@torch.inference_mode()
def test_hooks_are_still_called_and_modules_that_compute_otherwise_are_left_alone(model):
    calls = []
    model.lm_head.register_forward_hook(lambda *_: calls.append("head"))
    projection = model.model.layers[0].mlp.up_proj
    forward = projection.forward = lambda x: calls.append("own") or torch.zeros(*x.shape[:-1], 48)
    with fast.fast_decoding(model, 2):
        model(IDS)
    assert calls == ["own", "head"]
    assert projection.forward is forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_the_attention_of_one_token_is_softmax_attention(dtype, scaling):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, heads, n, 16, generator=generator) for heads, n in ((6, 1), (2, 9), (2, 9)))
    mask = torch.ones(3, 1, 1, 9, dtype=torch.bool)
    mask[0, ..., :4] = mask[2, ..., 6:] = False
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 3, True
    options = {"dropout": 0.0, "scaling": scaling}
    output, _ = fast._attend(module, query.to(dtype), key.to(dtype), value.to(dtype), mask, **options)
    keys, values = (x.to(dtype).double().repeat_interleave(3, 1) for x in (key, value))
    scores = query.to(dtype).double() @ keys.transpose(2, 3) * (scaling or 16**-0.5)
    expected = (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ values).transpose(1, 2)
    exact = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(output.double(), expected, **exact)
    assert output.dtype == dtype


def test_what_is_not_one_token_under_a_plain_mask_goes_to_the_librarys_attention(monkeypatch):
    calls = []
    monkeypatch.setattr(fast, "sdpa_attention_forward", lambda *args, **options: calls.append(args[1].shape[2]))
    x, mask = torch.ones(1, 2, 2, 8), torch.ones(1, 1, 1, 2, dtype=torch.bool)
    fast._attend(None, x, x, x, mask)
    fast._attend(None, x[:, :, :1], x, x, None)
    fast._attend(None, x[:, :, :1], x, x, mask.float())
    fast._attend(None, x[:, :, :1], x, x, mask, softcap=3.0)
    assert calls == [2, 1, 1, 1]
