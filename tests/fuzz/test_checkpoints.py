"""A checkpoint comes back as it was saved; whatever is done to its file, it does so or is refused in one line."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from ctd.distill import checkpoint
from tests.fuzz.test_parsers import tried

FLOATS = arrays.arrays("float32", arrays.array_shapes(max_dims=2, max_side=4), elements=st.floats(-9, 9, width=32))
LOGS = st.lists(
    st.fixed_dictionaries({"step": st.integers(0, 9), "loss": st.floats(allow_nan=False)}), min_size=1, max_size=3
)


def trained(arrays_of_weights):
    """Weights, and an optimizer that has made a step."""
    weights = [nn.Parameter(torch.from_numpy(array.copy())) for array in arrays_of_weights]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    sum((weight**2).sum() for weight in weights).backward()
    optimizer.step()
    return weights, optimizer


def state(weights, optimizer):
    moments = [tensor for values in optimizer.state_dict()["state"].values() for tensor in values.values()]
    return [tensor.detach().clone() for tensor in (*weights, *moments)]


def same(tensors, others):
    return all(torch.equal(a, b) for a, b in zip(tensors, others, strict=True))


@given(st.lists(FLOATS, min_size=1, max_size=3), LOGS)
def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path_factory, content, log):
    folder = tmp_path_factory.getbasetemp() / "checkpoint"
    folder.mkdir(exist_ok=True)
    weights, optimizer = trained(content)
    before = state(weights, optimizer)
    checkpoint.save(folder, "a", weights, optimizer, log)
    others, fresh = trained([array * 0 + 1 for array in content])
    assert checkpoint.resume(folder, "a", others, fresh) == log
    assert same(state(others, fresh), before)
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        checkpoint.resume(folder, "b", others, fresh)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    weights, optimizer = trained([torch.ones(3, 2).numpy()])
    checkpoint.save(folder, "a", weights, optimizer, [{"step": 1, "loss": 0.5}])
    return folder, (folder / checkpoint.CHECKPOINT).read_bytes(), state(weights, optimizer)


def check_read(saved, spoilt):
    folder, _, wanted = saved
    file = folder / checkpoint.CHECKPOINT
    file.write_bytes(spoilt)
    weights, optimizer = trained([torch.zeros(3, 2).numpy()])
    log, complaint = tried(lambda: checkpoint.resume(folder, "a", weights, optimizer))
    if complaint:
        assert file.name in complaint
        assert "\n" not in complaint
    else:
        assert math.isclose(log[0]["loss"], 0.5)
        assert same(state(weights, optimizer), wanted)


def test_a_spoilt_checkpoint_is_read_as_it_was_or_refused_in_one_line(saved):
    content = saved[1]
    places = st.integers(0, len(content))

    @given(places, places, st.binary(max_size=4))
    def check(first, second, piece):
        start, end = sorted((first, second))
        check_read(saved, content[:start] + piece + content[end:])

    check()


def test_a_flipped_bit_is_noticed_or_of_no_consequence(saved):
    content = saved[1]
    for place in range(0, len(content), max(1, len(content) // 150)):
        check_read(saved, content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
