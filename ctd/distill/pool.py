"""Many students side by side, one thread each, so that no result depends on the number of cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ctd import hardware, workers
from ctd.cache import cache_dir, keep_in_cache
from ctd.distill import methods, teach
from ctd.distill.experiment import Experiment
from ctd.distill.measures import Outcome
from ctd.distill.methods import Arm

STEP_SECONDS = 0.15  # what a training step takes at least: with few steps a student, students stay in this process
ON_GPU = 9  # students side by side on an accelerator: one alone leaves it waiting for the processor


def run(
    experiment: Experiment, arms: Sequence[Arm], seeds: Sequence[int], folder: Path | None = None, n_workers: int = 0
) -> list[Outcome]:
    """Teach every arm with every seed. Students that were taught before are read from the cache.

    folder: where students are kept; the cache's own by default.
    n_workers: students side by side; 0 for `workers.available()`, at most `ON_GPU` on an accelerator. Where a process
        is killed, half as many go on from their checkpoints.
    Returns the outcomes in the order of arms, then seeds.
    Raises ValueError for two arms of one name.
    """
    if len({arm.name for arm in arms}) < len(arms):
        raise ValueError(f"arms need names of their own, got {', '.join(arm.name for arm in arms)}")
    folder = folder or cache_dir("students")
    homes = {(arm, seed): folder / teach.key(experiment, arm, seed) for arm in arms for seed in seeds}
    for home in homes.values():
        keep_in_cache(home)
    missing = [student for student, home in homes.items() if not (home / teach.OUTCOME).is_file()]
    methods.read_teacher(experiment, dict.fromkeys(replace(arm, draw=seed) for arm, seed in missing))
    if not all(methods.is_packaged(arm) for arm, _ in missing):
        n_workers = 1  # other processes would not know a method that was registered in this one
    torch.cuda.empty_cache()  # what this process has set aside on an accelerator, its students could not use
    with tqdm(total=len(homes), initial=len(homes) - len(missing), desc="students", unit=" runs") as bar:
        for _ in workers.run(
            teach_one,
            missing,
            (experiment, folder),
            workers=n_workers or _most(experiment.language_model.model),
            seconds=experiment.plan.n_steps * STEP_SECONDS,
            bar=bar,
        ):
            pass
    return [teach.read(home, arm.name, seed) for (arm, seed), home in homes.items()]


def run_draws(experiments: Mapping[int, Experiment], arms: Sequence[Arm], folder: Path | None = None) -> list[Outcome]:
    """Teach every arm with every seed, each seed in an experiment of its own (see `prepare.prepare_draws`).

    experiments: by the seed of the students. All must have the same test documents.
    folder: as in `run`.
    Raises ValueError for other test documents, and what `run` raises.
    """
    if len({tuple(experiment.test_documents) for experiment in experiments.values()}) > 1:
        raise ValueError("experiments whose students are compared must have the same test documents")
    by_experiment: dict[int, list[int]] = {}
    for seed, experiment in experiments.items():
        by_experiment.setdefault(id(experiment), []).append(seed)
    parts = [run(experiments[seeds[0]], arms, seeds, folder) for seeds in by_experiment.values()]
    return [outcome for part in parts for outcome in part]


def _most(teacher: Any) -> int:
    """How many students at most; 0 for as many as there are workers."""
    return min(workers.available(), ON_GPU) if hardware.on_accelerator(teacher) else 0


def teach_one(shared: tuple[Experiment, Path], student: tuple[Arm, int]) -> None:
    """Teach one student. For `workers.run`.

    shared: the experiment, and the folder where students are kept.
    student: its arm and its seed.
    """
    (experiment, folder), (arm, seed) = shared, student
    teach.teach(experiment, arm, seed, folder)
