"""Characterize, then Distill: shortlisting and refining in large label spaces (arXiv:2606.06840)."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "LabelIndex", "claims", "distill", "evaluate", "explain", "load_model", "load_task", "patch", "reason",
    "score_heads",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The ten names, loaded when they are first used."""
    if name not in __all__:
        raise AttributeError(f"module 'ctd' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name == "distill":  # the package of that name can be called
        return import_module("ctd.distill")
    return getattr(import_module("ctd.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
