"""Whole numbers come close to the library's own encoding, and their products are exact."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from ctd.cache import packaged_file
from ctd.data.readers import mesh
from ctd.int8_matmul import LARGEST_INPUT, LARGEST_WEIGHT, OFFSET, Int8Matrix
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
    between = np.abs(minilm.vectors(texts) @ expected.T - expected @ expected.T)  # queries are exact
    assert np.quantile(between, 0.99) < 0.02


def test_a_vector_does_not_depend_on_its_batch(minilm, texts):
    together = minilm.vectors(texts)
    assert np.array_equal(together[:20], np.concatenate([minilm.vectors([text]) for text in texts[:20]]))


@torch.inference_mode()
def test_a_layer_differs_from_float32_by_rounding_alone():
    torch.manual_seed(0)
    layers, inputs = [nn.Linear(64, 32), nn.Linear(64, 16)], torch.randn(8, 64)
    inputs[:, :2] *= 50  # as in a transformer
    exact = torch.cat([layer(inputs) for layer in layers], 1)
    smooth, plain = (int8.Int8Linear(layers, largest) for largest in (inputs.abs().amax(0), torch.ones(64)))
    errors = [((whole(inputs) - exact).norm() / exact.norm()).item() for whole in (smooth, plain)]
    assert errors[0] < min(0.01, errors[1])


@pytest.mark.parametrize("sign", [1, -1])
def test_products_of_the_largest_numbers_are_exact(sign):
    inputs = torch.full((16, 1536), LARGEST_INPUT * sign + OFFSET, dtype=torch.uint8)
    matrix = Int8Matrix(torch.full((384, 1536), LARGEST_WEIGHT, dtype=torch.int8))
    assert (matrix.product(inputs) == 1536 * LARGEST_INPUT * LARGEST_WEIGHT * sign).all()


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_products_are_those_of_integers_here_and_in_another_process(rows):
    generator = torch.Generator().manual_seed(rows)
    inputs = torch.randint(-LARGEST_INPUT, LARGEST_INPUT + 1, (rows, 384), generator=generator)
    weight = torch.randint(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, (100, 384), generator=generator)
    matrix = Int8Matrix(weight.to(torch.int8))
    whole = (inputs + OFFSET).to(torch.uint8)
    assert (matrix.product(whole) == inputs @ weight.T).all()
    assert (pickle.loads(pickle.dumps(matrix)).product(whole) == inputs @ weight.T).all()
