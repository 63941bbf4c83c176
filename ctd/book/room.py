"""Whether memory and disk suffice for notebooks, before they begin."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ctd import hardware
from ctd.book.run_folder import MANIFEST, RunFolder
from ctd.book.runs import Plan
from ctd.cache import DATA, cache_base

EXPECTED_MIB = {"smoke": 1500.0}  # memory of a notebook that has no run yet, by profile
OTHERWISE_MIB = 3000.0
PUBLISHED = DATA / "results"
DISK_MIB = 300  # that a run may write; a first run fills the cache with more, and says so where it is full


def expected_mib(plan: Plan) -> float:
    """The memory that a notebook is expected to take.

    It is what its last run took; else the most that a published run with the same teacher took; else what most take.
    """
    try:
        return float(RunFolder(plan.folder).manifest["peak_memory_mib"])
    except (OSError, TypeError, ValueError):
        most = EXPECTED_MIB.get(plan.profile, OTHERWISE_MIB)
    if plan.profile in EXPECTED_MIB or "teacher" not in plan.parameters:
        return most
    published = (RunFolder(path.parent).manifest for path in PUBLISHED.glob(f"[!.]*/{MANIFEST}"))
    similar = [
        float(manifest["peak_memory_mib"])
        for manifest in published
        if Path(manifest["notebook"]).stem == plan.notebook.stem
        and manifest["parameters"].get("teacher") == plan.parameters["teacher"]
    ]
    return max(similar, default=most)


def require(plans: Sequence[Plan]) -> None:
    """Check memory and disk before anything begins.

    plans: of the notebooks that will run, side by side where memory allows.
    Raises MemoryError where this machine cannot have as much memory as one of them took, and OSError where the disk of
    the cache or of the runs is nearly full. Where other programs take the memory now, it is only said.
    """
    if not plans:
        return
    largest = max(plans, key=expected_mib)
    needed, (most, free) = expected_mib(largest), (part / 2**20 for part in hardware.memory())
    need = f"{largest.notebook.stem} takes about {needed:,.0f} MiB of memory"
    if needed > most:
        raise MemoryError(
            f"{need}, and this machine (or its container) has {most:,.0f}: run it with --profile smoke or smaller "
            "parameters (ctd params), or where there is more"
        )
    if needed > free:
        tqdm.write(f"{need}, and {free:,.0f} are free now: close other programs if it is killed")
    for place in {_there(cache_base()), *(_there(plan.folder) for plan in plans)}:
        if (free_mib := shutil.disk_usage(place).free / 2**20) < DISK_MIB:
            raise OSError(
                f"{free_mib:,.0f} MiB are free in {place}, and a run may write {DISK_MIB}: free some space (make "
                "clean-cache empties the cache), or set CTD_CACHE or --out to a folder elsewhere"
            )


def _there(folder: Path) -> Path:
    """A folder, or the one nearest above it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
