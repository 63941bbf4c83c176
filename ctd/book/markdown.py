"""Tables, code and the facts of a manifest as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def captioned(name: str, caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f":::{{table}} {caption}\n:name: {name}\n\n{table(heads, rows)}\n:::\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; pipes and line breaks in a cell are made harmless."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def code(*texts: str) -> str:
    """Texts as inline code, one below the other; a backtick inside becomes a quote."""
    return "<br>".join(f"`{text.replace('`', chr(39))}`" for text in texts) or "none"


def commit(manifest: Mapping[str, Any]) -> str:
    changed = " with uncommitted changes" if manifest["dirty"] else ""
    return code(manifest["commit"][:10]) + changed


def hardware(machine: Mapping[str, Any]) -> str:
    gpu = machine["gpu"] or "no GPU"
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB memory, {gpu}"


def started(manifest: Mapping[str, Any]) -> str:
    """`2026-11-21 09:00 UTC`."""
    return f"{datetime.fromisoformat(manifest['start']).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def memory(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['peak_memory_mib']:,.0f} MiB"
