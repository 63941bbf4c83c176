"""Whole numbers come close to the library's own encoding, and their products are exact."""

import numpy as np
import pytest
import torch
from torch import nn

from ctd.cache import packaged_file
from ctd.data.readers import mesh
from ctd.retrieval import encoders, int8


@pytest.fixture(scope="module")
def texts():
    headings = mesh.label_space().texts[::4000]
    return [*headings, ". ".join(headings[:60]), *encoders.PROBE]


@pytest.fixture(scope="module")
def minilm():
    return encoders.load("minilm", dtype="int8")


def test_vectors_are_near_the_library_own_encoding(minilm, texts):
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(packaged_file("minilm_weights").parent), device="cpu")
    expected = library.encode(texts, normalize_embeddings=True)
    cosine = (minilm.vectors(texts) * expected).sum(1)
    assert cosine.min() > 0.99
    assert cosine.mean() > 0.997
    between = np.abs(minilm.vectors(texts) @ minilm.vectors(texts).T - expected @ expected.T)
    assert np.quantile(between, 0.99) < 0.02


def test_a_vector_does_not_depend_on_its_batch(minilm, texts):
    together = minilm.vectors(texts)
    assert np.array_equal(together[:20], np.concatenate([minilm.vectors([text]) for text in texts[:20]]))


@torch.inference_mode()
def test_a_layer_differs_from_float32_by_rounding_alone():
    torch.manual_seed(0)
    layers = [nn.Linear(64, 32), nn.Linear(64, 16)]
    inputs = torch.randn(8, 64) * torch.logspace(-1, 1, 64)  # some inputs are a hundred times as large as others
    whole = int8.Int8Linear(layers, inputs.abs().amax(0))
    exact = torch.cat([layer(inputs) for layer in layers], 1)
    assert (whole(inputs) - exact).norm() / exact.norm() < 0.02
    one_scale = int8.Int8Linear(layers, torch.ones(64))
    assert (whole(inputs) - exact).norm() < 0.7 * (one_scale(inputs) - exact).norm()


@pytest.mark.parametrize("sign", [1, -1])
def test_products_of_the_largest_numbers_are_exact(sign):
    inputs = torch.full((16, 1536), int8.LARGEST_INPUT * sign, dtype=torch.int8)
    weights = torch.full((384, 1536), int8.LARGEST_WEIGHT, dtype=torch.int8).T
    assert (torch._int_mm(inputs, weights) == 1536 * int8.LARGEST_INPUT * int8.LARGEST_WEIGHT * sign).all()
