"""Texts of any length as unit vectors: the mean of their pieces, since an encoder reads only so many tokens."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ctd.retrieval import encoders
from ctd.retrieval.encoders import Encoder

PIECE = 254  # characters: a token holds at least one, and MiniLM reads 256 tokens, two of them its own


def pieces(text: str, longest: int = PIECE) -> list[str]:
    """The text as consecutive runs of whole words of at most `longest` characters; a longer word is cut.

    Pieces are filled from the beginning, so that the prefixes of a text share all pieces but their last ones.
    """
    if longest < 1:
        raise ValueError(f"longest must be at least 1 character, got {longest}")
    return textwrap.wrap(" ".join(text.split()), longest, break_on_hyphens=False)


def embed(encoder: Encoder, texts: Sequence[str], longest: int = PIECE, desc: str = "") -> Float[np.ndarray, "n d"]:
    """Unit vectors of texts of any length; NaN for "".

    A text's vector is the mean of its pieces' vectors weighted by characters, normalised (our definition): an encoder
    silently drops what is beyond its length (MiniLM: 256 tokens). Each distinct piece is encoded once and cached by
    `encoders.encode`. A curve bends a little where its prefixes outgrow the first piece; short pieces put that early,
    and not near t*.

    encoder: embeds the pieces.
    longest: characters of a piece. The default fits any encoder of 256 tokens whose tokens hold at least a character.
    desc: label of the progress bar.
    Raises ValueError for longest < 1.
    """
    parts = {text: pieces(text, longest) for text in texts}
    rows = {piece: row for row, piece in enumerate(dict.fromkeys(piece for part in parts.values() for piece in part))}
    encoded = np.asarray(encoders.encode(encoder, list(rows), desc or "embedding texts")) if rows else np.empty((0, 0))
    means = np.full((len(parts), encoder.dim), np.nan, np.float32)
    for row, part in enumerate(parts.values()):
        if part:
            means[row] = np.average(encoded[[rows[piece] for piece in part]], axis=0, weights=[len(p) for p in part])
    place = {text: row for row, text in enumerate(parts)}
    return normalise(means)[[place[text] for text in texts]]


def normalise(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Vectors of length 1; NaN for those of length 0."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.full_like(vectors, np.nan), where=norm > 0)
