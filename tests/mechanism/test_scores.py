"""Kurtosis, against scipy."""

import numpy as np
import pytest
import scipy.stats
import torch

from ctd.mechanism import scores


@pytest.mark.parametrize("n", [2, 7, 300])
def test_kurtosis_is_scipys(n):
    rows = torch.rand(20, n, generator=torch.Generator().manual_seed(0)) ** 8
    expected = scipy.stats.kurtosis(rows.double().numpy(), axis=1)
    np.testing.assert_allclose(scores.kurtosis(rows).numpy(), expected, rtol=1e-3, atol=1e-3)
    assert scores.kurtosis(torch.full((1, n), 0.25)).tolist() == [0.0]
    tiny = scores.kurtosis(rows * 1e-25)  # a head that looks elsewhere: squares of squares would be zero
    np.testing.assert_allclose(tiny.numpy(), expected, rtol=1e-3, atol=1e-3)
