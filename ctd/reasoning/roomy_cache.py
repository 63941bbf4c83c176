"""Keys and values of a text that is being written, in buffers with room for the tokens to come.

Notes: the library's own cache copies all keys and values for each new token. A buffer is copied once in `ROOM` tokens.
The attention sees a whole buffer, and the mask hides what is not written yet, as for the library's static cache.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 32  # tokens by which a buffer grows


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer."""

    is_compileable = True  # as a static layer's: else masks are left out where no text is padded
    n_written = 0

    def update(
        self, key_states: Float[Tensor, "b h n c"], value_states: Float[Tensor, "b h n c"], *_: Any, **__: Any
    ) -> tuple[Float[Tensor, "b h k c"], Float[Tensor, "b h k c"]]:
        """Write the new tokens into the buffers, and return the whole buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.n_written + key_states.shape[2]
        self.keys = self._write(self.keys, key_states, end)
        self.values = self._write(self.values, value_states, end)
        self.n_written = end
        return self.keys, self.values

    def _write(self, buffer: Any, new: Tensor, end: int) -> Tensor:
        if not buffer.numel() or buffer.shape[2] < end:
            batch, heads, _, size = new.shape
            longer = new.new_empty(batch, heads, _room(end), size)
            longer[:, :, end:] = 0  # what is masked must be finite
            if buffer.numel():
                longer[:, :, : self.n_written] = buffer[:, :, : self.n_written]
            buffer = longer
        buffer[:, :, self.n_written : end] = new
        return buffer

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys the next call will return, and the position of the first."""
        return _room(self.n_written + query_length), 0

    def get_seq_length(self) -> int:
        """How many tokens are written."""
        return self.n_written


def for_model(model: Any) -> DynamicCache | None:
    """An empty cache for a model; None where it has a kind of its own, which only it can make.

    It has room where every layer attends to all tokens, and is the library's own for sliding windows and the like.
    """
    if not model._supports_default_dynamic_cache():
        return None
    cache = DynamicCache(config=model.config)
    if model.config._attn_implementation == "sdpa" and all(type(layer) is DynamicLayer for layer in cache.layers):
        cache.layers = [RoomyLayer() for _ in cache.layers]
    return cache


def has_room(cache: DynamicCache | None) -> bool:
    """Whether every layer has room: then each attends to all tokens, and padding may stand between them."""
    return cache is not None and all(isinstance(layer, RoomyLayer) for layer in cache.layers)


def _room(n_tokens: int) -> int:
    return -(-n_tokens // ROOM) * ROOM
