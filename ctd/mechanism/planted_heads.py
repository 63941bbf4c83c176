"""Heads that are known by construction: those that were planted in a model organism."""

from __future__ import annotations

import json
from pathlib import Path

from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import models

PLANTED = "organism-planted"
MANIFEST_KEYS = {phase: f"phase{phase:d}" for phase in Phase}  # of the manifests beside the weights


def planted_heads(organism: str | Path = PLANTED) -> dict[Phase, list[Head]]:
    """The planted heads of each phase of a model organism.

    organism: its name, or the folder of one.
    Raises FileNotFoundError where there is no such organism, ValueError for one in which nothing was planted.
    """
    folder = models.folder(str(organism))
    path = folder / "manifest.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} has no manifest.json: build the organisms with `{models.PACKAGED[PLANTED].mend}`"
        )
    planted = json.loads(path.read_text("utf-8")).get("planted")
    if not planted:
        raise ValueError(f"no heads were planted in {folder.name}: load {PLANTED!r}")
    return {phase: [Head(*head) for head in planted[key]] for phase, key in MANIFEST_KEYS.items()}
