"""Long texts embedded piece by piece."""

import numpy as np
import pytest

from ctd.mechanism import cot_prefixes, embed_text
from tests.mechanism.conftest import COTS, trace


class TestPieces:
    def test_hold_every_word_in_order_and_never_too_many_characters(self):
        text = " ".join(COTS) + "\u00a0and\tso on, " + "x" * 95
        pieces = embed_text.pieces(text, 30)
        assert max(map(len, pieces)) <= 30
        assert "".join("".join(pieces).split()) == "".join(text.split())

    def test_prefixes_share_all_but_their_last_one(self):
        cot = " ".join(COTS)
        whole = embed_text.pieces(cot, 40)
        for prefix in cot_prefixes.prefixes(cot)[1:]:
            *full, _ = embed_text.pieces(prefix, 40)
            assert full == whole[: len(full)]

    def test_the_end_of_a_long_text_counts(self, own_cache):
        class Short:
            """Reads the first 20 characters, as a transformer reads its first tokens."""

            name, key, dim, at_once, workers = "short", "short", 26, 512, 0

            def vectors(self, texts):
                out = np.array([[text[:20].count(chr(97 + c)) for c in range(26)] for text in texts], np.float32)
                return out / np.linalg.norm(out, axis=1, keepdims=True)

        text = "a" * 20 + " " + "b" * 20 + " " + "c" * 10
        whole, pieced = (embed_text.embed(Short(), [text], longest)[0] for longest in (1000, 20))
        assert np.flatnonzero(whole).tolist() == [0]
        np.testing.assert_allclose(pieced[:3], np.array([2, 2, 1]) / 3, rtol=1e-6)  # weighted by characters, unit norm

    def test_each_is_encoded_once_and_then_read_from_the_cache(self, encoder, own_cache, monkeypatch):
        seen = []
        plain = encoder.vectors
        monkeypatch.setattr(encoder, "vectors", lambda texts: seen.extend(texts) or plain(texts))
        both = [trace(COTS[0]), trace(COTS[0] + " ")]
        once = cot_prefixes.embed_prefixes(both, encoder, longest=30)
        assert len(seen) == len(set(seen)) > 0
        again = cot_prefixes.embed_prefixes(both, encoder, longest=30)
        np.testing.assert_array_equal(once.vectors, again.vectors)
        assert len(seen) == len(set(seen))

    def test_a_piece_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="longest must be at least 1 character, got 0"):
            embed_text.pieces("a", 0)
