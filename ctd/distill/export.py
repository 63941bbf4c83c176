"""One student for your own use: taught as an arm of an experiment is, and kept as a folder that transformers loads.

Notes: `ctd distill` calls `teach`. Under `accelerate launch` every process runs it, and the first one writes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ctd import hardware, stats
from ctd.cache import atomic, cache_dir, require_free
from ctd.data import label_files, readers
from ctd.distill import card, checkpoint, measures, train
from ctd.distill.experiment import Experiment, Plan
from ctd.distill.methods import Arm
from ctd.distill.methods.answering import load_student
from ctd.distill.prepare import prepare
from ctd.distill.teach import EXPERTS, answers_of, chosen_step, forget, key, train_student
from ctd.reasoning import architecture, teachers
from ctd.reasoning.models import LanguageModel
from ctd.retrieval import encoders


@dataclass(frozen=True)
class Lesson:
    """Who teaches, and about what.

    teacher: a teacher's name, or the folder or id of a model.
    dataset: name of the task.
    source: folder, file or name of your own data; empty for the task's own.
    text_column: the column with the text.
    label_column: the column with the labels.
    encoder: what labels are embedded with.
    n_clusters: clusters of labels that serve as topics; 0 for the label space's own tree.
    """

    teacher: str
    dataset: str = "organism"
    source: str = ""
    text_column: str = "text"
    label_column: str = "labels"
    encoder: str = "wordllama"
    n_clusters: int = 0

    def prepare(self, plan: Plan, seed: int = 0, live: bool = False, heads: bool = False) -> Experiment:
        """Load the task and the teacher, and let the teacher write (see `ctd.distill.prepare`).

        heads: whether the teacher's heads are imitated. Raises ValueError where they cannot be read exactly.
        """
        task = readers.load_as_asked(self.dataset, self.source, self.text_column, self.label_column)
        if left_out := readers.left_out(task):
            tqdm.write(left_out)
        task, index = teachers.with_topics(task, encoders.load(self.encoder), self.n_clusters, seed)
        teacher = teachers.load(self.teacher)
        if heads and isinstance(teacher.language_model, LanguageModel):
            architecture.shape(teacher.language_model.model)
        return prepare(teacher, task, index, plan, seed, live)


def teach(lesson: Lesson, out: Path, arm: Arm, plan: Plan, seed: int = 0, live: bool = False) -> dict[str, Any]:
    """Teach one student. A killed run goes on where its last checkpoint stands.

    out: folder to be made: weights in bfloat16, tokenizer, labels, loss curve, manifest and model card. The experts of
        a method that teaches several models are folders in `experts/`.
    arm: how the student is taught.
    seed: draws the traces and their order.
    live: run the teacher in every step instead of once, and write nothing of it to disk.
    Returns the manifest.
    Raises FileExistsError where `out` exists, and what `prepare` and `train_student` raise.
    """
    require_free(out, "name another folder")
    processes = train.processes()
    with processes.main_process_first():
        experiment = lesson.prepare(plan, seed, live, heads="heads" in arm.needs)
    student_key = key(experiment, arm, seed)
    work = cache_dir("training", f"student-{student_key}")
    student, log = train_student(experiment, arm, seed, work)
    manifest = _manifest(out.name, experiment, arm, seed, student, log)
    if processes.is_main_process:
        manifest |= {
            "lesson": _lesson(lesson, experiment, arm),
            "measured": _measured(experiment, arm, student, student_key, work),
        }
        with atomic(out) as scratch:
            student.to(torch.bfloat16).save_pretrained(scratch)
            experiment.language_model.tokenizer.save_pretrained(scratch)
            _save_experts(work / EXPERTS, scratch / EXPERTS, experiment.language_model)
            shutil.copy(work / checkpoint.LOG, scratch / "loss.csv")
            experiment.task.space.save(scratch / label_files.SAVED)
            (scratch / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
            (scratch / card.FILE).write_text(card.write(manifest, experiment.task.card), encoding="utf-8")
        forget(work)  # another run may teach the same student
    processes.wait_for_everyone()
    return manifest


def distill(
    teacher: str, out: str | Path, method: str = "mechanistic", *, seed: int = 0, live: bool = False, **settings: Any
) -> dict[str, Any]:
    """Teach one student what a teacher says, or what its heads compute, and keep it as a folder.

    teacher: its name, or the folder or id of a model.
    out: folder to be made; see `teach`.
    method: a name that `ctd methods` lists.
    seed: draws the traces and their order.
    live: run the teacher in every step instead of once, and write nothing of it to disk.
    settings: fields of `Lesson` (such as `dataset`) and of `ctd.distill.experiment.Plan` (such as `n_traces`).
    Returns the manifest of the student.
    Raises TypeError for an unknown setting, and what `teach` raises.
    """
    lesson_fields = {field.name for field in fields(Lesson)}
    of_lesson = {name: settings.pop(name) for name in lesson_fields & settings.keys()}
    arm = Arm(Path(out).name, method)
    return teach(Lesson(teacher, **of_lesson), Path(out), arm, Plan(**settings), seed, live)


def _manifest(
    name: str, experiment: Experiment, arm: Arm, seed: int, student: Any, log: Sequence[dict[str, float]]
) -> dict[str, Any]:
    return {
        "name": name,
        "teacher": experiment.language_model.name,
        "arm": asdict(arm),
        "plan": asdict(experiment.plan),
        "recipe": {"document_tokens": experiment.teacher.document_tokens},
        "seed": seed,
        "traces": len(experiment.traces),
        "parameters": student.num_parameters(),
        "steps": len(log),
        "chosen_step": chosen_step(experiment, log),
        "tokens": int(sum(row["tokens"] for row in log)),
        "minutes": round(sum(row["seconds"] for row in log) / 60, 1),
        "hardware": hardware.describe(student.device),
        "loss": log[-1]["loss"],
    }


def _lesson(lesson: Lesson, experiment: Experiment, arm: Arm) -> dict[str, Any]:
    """What the student was taught about, and how it is to be asked."""
    space = experiment.task.space
    how_asked = {"mode": arm.base.mode, "after_prompt": arm.after_prompt}
    return {**asdict(lesson), "space": space.name, "n_labels": len(space), **how_asked}


def _save_experts(taught: Path, out: Path, like: LanguageModel) -> None:
    """Keep experts as the student is kept: in bfloat16, each with the tokenizer."""
    for home in taught.glob("*/"):
        expert: Any = load_student(home, like, home.name, home.name).model
        expert.to(torch.bfloat16).save_pretrained(out / home.name)
        like.tokenizer.save_pretrained(out / home.name)


def _measured(
    experiment: Experiment, arm: Arm, student: Any, name: str, home: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """What teacher and student answer about the test documents, with 95 % intervals over documents."""
    answers = answers_of(experiment, arm, student, "the student's answers", name, home)
    values = {
        "teacher": measures.of_answers(experiment.teacher_answers, experiment.gold),
        "student": measures.of_answers(answers, experiment.gold),
    }
    values["student"]["token_probability"] = measures.token_probability(
        student, experiment.teacher_examples, experiment.mixed
    )
    return {
        who: {
            measure: dict(zip(("value", "low", "high"), stats.bootstrap_mean(scores).scalar, strict=True))
            for measure, scores in measured.items()
        }
        for who, measured in values.items()
    }
