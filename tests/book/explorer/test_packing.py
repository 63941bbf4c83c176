"""What a page is handed comes back as it was, and cannot end the script that carries it."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from ctd.book.explorer import packing


def from_four_bits(packed, shape):
    """The values that `to_four_bits` packed, to the nearest level."""
    pairs = np.frombuffer(packed, np.uint8)
    levels = np.stack([pairs >> 4, pairs & packing.LEVELS], axis=1).ravel()[: np.prod(shape)]
    return (levels / packing.LEVELS).reshape(shape) ** 2


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4)])
def test_four_bits_come_back_to_the_nearest_level(shape):
    values = np.random.default_rng(0).random(shape) ** 4
    read = from_four_bits(packing.to_four_bits(values), shape)
    assert read.shape == shape
    assert np.abs(np.sqrt(read) - np.sqrt(values)).max() <= 0.5 / packing.LEVELS + 1e-12


def test_levels_come_back_exactly_and_two_fill_a_byte():
    levels = (np.arange(16) / 15) ** 2
    packed = packing.to_four_bits(levels)
    assert packed.hex() == "0123456789abcdef"
    np.testing.assert_allclose(from_four_bits(packed, (16,)), levels)


def test_small_attention_is_not_lost():
    assert from_four_bits(packing.to_four_bits(np.array([0.003, 0.0])), (2,)).tolist() == [1 / 225, 0]


def test_a_script_holds_nothing_but_base64(tmp_path):
    value = {"label": "</script><script>alert(1)</script>", "quote": "\"'\\\u2028"}
    packing.write_script(tmp_path / "a" / "b.js", "a/b", value, {"raw": b"\x00\xff"})
    text = (tmp_path / "a" / "b.js").read_text()
    name, parts = json.loads(f"[{re.fullmatch(r'explorer[.]receive[(](.*)[)];', text.strip())[1]}]")
    assert name == "a/b"
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]+", part) for part in parts.values())
    unpacked = {name: zlib.decompress(base64.b64decode(part)) for name, part in parts.items()}
    assert json.loads(unpacked["json"]) == value
    assert unpacked["raw"] == b"\x00\xff"
