"""What is handed to other processes: it comes out as it went in, and a pickle of somebody else is not read."""

import mmap
import pickle

import numpy as np
import pytest
import torch

from ctd import payload


class Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('a stranger pickle was read')",)


def again(value, folder):
    return payload.write(value, folder).read()


def test_arrays_and_tensors_come_out_as_they_went_in(tmp_path):
    base = torch.arange(12, dtype=torch.bfloat16)
    value = {
        "array": np.arange(6).reshape(2, 3), "columns": np.arange(6).reshape(2, 3).T, "words": np.array(["a", None]),
        "every second": np.arange(9)[::2], "empty": np.empty((0, 3)), "number": 3, "tensor": base.view(3, 4).T,
        "part": base[3:5], "bits": torch.tensor([True, False]), "nothing": torch.empty(0, 2), "none": None,
    }  # fmt: skip
    back = again(value, tmp_path)
    assert back.keys() == value.keys()
    for name, part in value.items():
        if isinstance(part, torch.Tensor):
            assert back[name].dtype == part.dtype
            assert torch.equal(back[name], part)
        else:
            np.testing.assert_array_equal(back[name], part)
    back["part"][0] = 9
    assert back["tensor"][3, 0] == 9, "views of one storage stay views of one storage"


def test_a_model_comes_out_with_its_tied_weights(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    back = again(model, tmp_path)
    assert back[1].weight is back[0].weight
    assert torch.equal(back(torch.ones(4)), model(torch.ones(4)))


def test_arrays_are_mapped_and_stay_writable_for_their_reader(tmp_path):
    source = payload.write({"a": np.zeros(1000), "t": torch.zeros(1000)}, tmp_path)
    first, second = source.read(), source.read()
    first["a"][0] = first["t"][0] = 1
    assert second["a"][0] == second["t"][0] == 0
    base = first["a"].base
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj, mmap.mmap)
    assert len((tmp_path / "pickle").read_bytes()) < 2000


@pytest.mark.parametrize("hostile", [pickle.dumps(Hostile()), pickle.dumps(([], pickle.dumps(Hostile()))), b""])
def test_a_pickle_that_somebody_else_put_there_is_not_read(tmp_path, hostile):
    source = payload.write([1, 2], tmp_path)
    assert source.read() == [1, 2]
    (tmp_path / "pickle").write_bytes(hostile)
    with pytest.raises(ValueError, match="is not what was written there"):
        source.read()
