"""Many students side by side: a process each, one thread each, so that no result depends on the number of cores."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ctd import hardware
from ctd.cache import cache_dir, scratch
from ctd.distill import teach
from ctd.distill.experiment import Experiment, one_thread
from ctd.distill.measures import Outcome
from ctd.distill.methods import METHODS, Arm

STARTING = 20  # steps that starting a process costs: with fewer steps a student, students stay in this process
ON_GPU = 9  # students side by side on an accelerator: one alone leaves it waiting for the processor


def run(
    experiment: Experiment, arms: Sequence[Arm], seeds: Sequence[int], folder: Path | None = None, workers: int = 0
) -> list[Outcome]:
    """Teach every arm with every seed. Students that were taught before are read from the cache.

    folder: where students are kept; the cache's own by default.
    workers: students side by side; 0 for as many as there are cores, at most `ON_GPU` on an accelerator. Where a
        process is killed, half as many go on.
    Returns the outcomes in the order of arms, then seeds.
    Raises ValueError for two arms of one name.
    """
    if len({arm.name for arm in arms}) < len(arms):
        raise ValueError(f"arms need names of their own, got {', '.join(arm.name for arm in arms)}")
    folder = folder or cache_dir("students")
    homes = {(arm, seed): folder / teach.key(experiment, arm, seed) for arm in arms for seed in seeds}
    missing = [student for student, home in homes.items() if not (home / teach.OUTCOME).is_file()]
    if any(METHODS[arm.method].reads_heads for arm, _ in missing):
        _ = experiment.teacher_signals  # read once, before the processes that share them begin
    if not all(METHODS[name].is_packaged for arm, _ in missing for name in (arm.method, arm.base_loss)):
        workers = 1  # other processes would not know a method that was registered in this one
    workers = min(
        workers or _side_by_side(experiment.language_model.model),
        len(missing),
        experiment.plan.n_steps * len(missing) // STARTING,
    )
    with tqdm(total=len(homes), initial=len(homes) - len(missing), desc="students", unit=" runs") as bar:
        if workers > 1:
            try:
                _in_processes(experiment, missing, folder, workers, bar)
            except BrokenProcessPool:
                bar.write(
                    f"a student's process was killed, most often for want of memory: going on with {workers // 2} at a "
                    f"time in place of {workers}, from their checkpoints"
                )
                return run(experiment, arms, seeds, folder, workers // 2)
        else:
            with one_thread():
                for arm, seed in missing:
                    teach.teach(experiment, arm, seed, folder)
                    bar.update()
    return [teach.read(home, arm.name, seed) for (arm, seed), home in homes.items()]


def _side_by_side(teacher: Any) -> int:
    cores = len(os.sched_getaffinity(0))
    return min(cores, ON_GPU) if hardware.on_accelerator(teacher) else cores


def _in_processes(
    experiment: Experiment, missing: Sequence[tuple[Arm, int]], folder: Path, workers: int, bar: tqdm
) -> None:
    torch.cuda.empty_cache()  # what this process has set aside on an accelerator, its students could not use
    context = multiprocessing.get_context("spawn")
    with on_disk(experiment, folder) as shared, ProcessPoolExecutor(workers, context, begin, (shared, folder)) as pool:
        try:
            for done in as_completed([pool.submit(teach_here, arm, seed) for arm, seed in missing]):
                done.result()
                bar.update()
        except BaseException:  # an interrupt too: students that wait must not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def on_disk(experiment: Experiment, folder: Path) -> Iterator[Path]:
    """An experiment as a file that all processes read at once. Sent to each, every process would wait for the last.

    Most of it is the label index. A teacher on the processor is mapped by all processes, one on an accelerator is
    copied to each.
    """
    with scratch(folder / "experiment.pt") as path:
        torch.save(experiment, path, pickle_protocol=pickle.HIGHEST_PROTOCOL)  # the one that stores bytes as they are
        yield path


_shared: tuple[Experiment, Path] | None = None


def begin(path: Path, folder: Path) -> None:
    """Start a process of the pool: read the experiment that `on_disk` wrote."""
    global _shared
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _shared = torch.load(path, mmap=True, weights_only=False), folder


def _end_with_parent() -> None:
    """End where the parent is killed: the process would wait for work for ever. Its student has a checkpoint."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def teach_here(arm: Arm, seed: int) -> None:
    """Teach one student in a process that `begin` started."""
    assert _shared is not None
    experiment, folder = _shared
    teach.teach(experiment, arm, seed, folder)
