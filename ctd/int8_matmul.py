"""Products of small whole numbers, by oneDNN: exact, and faster than float32 on x86 processors with AVX2 or better.

Notes: inputs are bytes without a sign, as the instructions of these processors want them. `torch._int_mm` takes signed
ones, which costs it a factor of 30 against float32 where there is no AVX-512.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

OFFSET = 128  # is added to inputs, which then have no sign
LARGEST_INPUT = 127
LARGEST_WEIGHT = 63  # 7 bits, since older x86 processors add two products in 16 bits, where 8 bits would overflow


def is_available() -> bool:
    """Whether this processor has them: x86 with AVX2, and a torch that was built with oneDNN."""
    if not torch.backends.mkldnn.is_available() or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return bool(torch.cpu.get_capabilities().get("avx2"))


class Int8Matrix:
    """A matrix of whole numbers that inputs are multiplied with. It is laid out for the processor at its first use.

    weight: no number larger than `LARGEST_WEIGHT`.
    """

    def __init__(self, weight: Int8[Tensor, "outputs inputs"]) -> None:
        self.weight = weight
        self._packed: tuple[Tensor, Tensor, Tensor] | None = None

    def product(self, inputs: UInt8[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """(inputs - `OFFSET`) times the matrix, transposed: exact for 2,000 inputs at most, else rounded to float32."""
        if self._packed is None:
            n = len(self.weight)
            packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
            self._packed = packed, torch.ones(n), torch.zeros(n, dtype=torch.int32)
        to_float32: tuple[Any, ...] = (None, 1.0, 0, torch.float32, "none", [], "")
        return torch.ops.onednn.qlinear_pointwise(inputs, 1.0, OFFSET, *self._packed, *to_float32)

    def __getstate__(self) -> dict[str, Any]:
        """What other processes get: the layout is this process's own."""
        return {"weight": self.weight, "_packed": None}
