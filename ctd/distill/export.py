"""One student for your own use: taught as an arm of an experiment is, and kept as a folder that transformers loads.

Notes: `ctd distill` calls `teach`. Under `accelerate launch` every process runs it, and the first one writes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ctd import hardware
from ctd.cache import atomic, cache_dir
from ctd.data import readers
from ctd.distill import checkpoint, experiment, train
from ctd.distill.experiment import Arm, Plan
from ctd.reasoning import teachers
from ctd.retrieval import encoders


def teach(
    teacher: str,
    dataset: str,
    out: Path,
    arm: Arm,
    plan: Plan,
    seed: int = 0,
    encoder: str = "wordllama",
    n_clusters: int = 0,
    live: bool = False,
    **columns: str,
) -> dict[str, Any]:
    """Teach one student; `out` gets weights (bfloat16), tokenizer, loss curve and manifest, which is returned.

    columns: `source`, `text` and `labels` of `datasets.load_as_asked`. live: as in `arms.loss_of`. A killed run goes on
    where its last checkpoint stands. Raises FileExistsError where `out` is, and what `arms.school` and `arms.taught`
    raise.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists: a student is not written over, name another folder")
    processes = train.processes()
    with processes.main_process_first():
        task = readers.load_as_asked(dataset, **columns)
        task, index = teachers.with_topics(task, encoders.load(encoder), n_clusters, seed)
        of = experiment.school(teachers.load(teacher), task, index, plan, seed)
    work = cache_dir("training", f"student-{experiment.key(of, arm, seed)}")
    student, log = experiment.taught(of, arm, seed, work, live)
    manifest = {
        "name": out.name,
        "teacher": of.language_model.name,
        "arm": asdict(arm),
        "plan": asdict(plan),
        "recipe": {"document_tokens": of.teacher.document_tokens},
        "seed": seed,
        "traces": len(of.passages),
        "parameters": student.num_parameters(),
        "steps": len(log),
        "tokens": int(sum(row["tokens"] for row in log)),
        "minutes": round(sum(row["seconds"] for row in log) / 60, 1),
        "hardware": hardware.describe(student.device),
        "loss": log[-1]["loss"],
    }
    if processes.is_main_process:
        with atomic(out) as scratch:
            student.to(torch.bfloat16).save_pretrained(scratch)
            of.language_model.tokenizer.save_pretrained(scratch)
            shutil.copy(work / checkpoint.LOG, scratch / "loss.csv")
            (scratch / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        (work / checkpoint.CHECKPOINT).unlink(missing_ok=True)  # another run may teach the same student
    processes.wait_for_everyone()
    return manifest
