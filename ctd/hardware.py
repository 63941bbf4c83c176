"""What this machine is, and what computes well on it.

Notes: torch is imported where it is needed, because the command line asks for the machine without it.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def computes_bfloat16(device: str) -> bool:
    """Whether the device multiplies in bfloat16 itself, which makes bfloat16 faster than float32 there."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def describe(device: torch.device | None = None) -> str:
    """What a model runs on, in words: the accelerator's name, or the CPU's threads (also for None)."""
    import torch

    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


def on_accelerator(model: Any) -> bool:
    """Whether a model lies on an accelerator, where a step takes as long for few rows as for many."""
    return bool(model.device.type == "cuda")


def cores() -> int:
    """How many cores this process may use, by its affinity and its container's limit."""
    import joblib

    return int(joblib.cpu_count())


VECTORS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # vector instructions, best first: sums depend on them


def machine() -> dict[str, Any]:
    """What this machine is.

    cpu: its name, and the best of `VECTORS` that it has where Linux tells.
    cores: those that this process may use.
    memory_gib: its memory.
    """
    import psutil

    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
        name = re.findall(r"model name\s*:\s*(.+)", cpuinfo)[0]
        cpu = ", ".join([name, *[vectors for vectors in VECTORS if vectors in cpuinfo.split()][:1]])
    except (OSError, IndexError):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": cores(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1)}
