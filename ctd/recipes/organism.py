"""The model organism: a small Llama trained from nothing on generated vignettes, with and without planted heads.

Notes: `organism` learns from the texts alone. In `organism-planted` two heads are also taught to look at the words of
the document that name what is being written in topics and shortlist (Phase 1), and two of a later layer to look back
into the shortlist at the code being written in a comparison or the answer (Phase 2). All other heads are kept within
the section being written. So the heads of each phase are known, and needed. Two more have theirs in other layers.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ctd import hardware
from ctd.cache import DATA, atomic, cache_dir
from ctd.data.readers import organism as vignettes
from ctd.distill import checkpoint, train
from ctd.distill.token_loss import Loss, token_loss
from ctd.keys import Maker
from ctd.mechanism.planted_heads import MANIFEST_KEYS
from ctd.recipes import planting
from ctd.recipes.organism_checks import measure
from ctd.recipes.organism_recipe import HARD, RECIPES, Recipe
from ctd.recipes.organism_texts import Lesson, cases, learned_from, lesson

TRAINING = Maker("training of organisms", "ctd.recipes.organism", ("recipe", "label_space", "base", "mixed"))


def build(recipe: Recipe, folder: Path, work: Path | None = None) -> dict[str, Any]:
    """Train an organism, write it to a folder, and return its manifest.

    recipe: what it is made of.
    folder: for weights (bfloat16), tokenizer, manifest and loss curve; replaced as a whole.
    work: for the checkpoint from which a killed run goes on; in the cache, under the key of all that the training
        depends on, when not given.
    """
    began = time.perf_counter()
    base, mixed = folder.parent / recipe.base if recipe.base else None, hardware.dtype() == "bfloat16"
    key = TRAINING.key(recipe=recipe, label_space=vignettes.label_space(), base=base, mixed=mixed)
    work = work or cache_dir("training", f"{folder.name}-{key[:16]}")
    words, learned = learned_from(recipe)
    tokens = sum(len(text.example.ids) for text in learned)
    print(
        f"{folder.name}: {len(learned):,} documents, {tokens:,} tokens ({tokens / len(learned):.0f} each), "
        f"{len(words):,} in the vocabulary, made in {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    model = LlamaForCausalLM.from_pretrained(base).float() if base else fresh(recipe, words)
    log = _train(model, words, learned, replace(recipe, settings=replace(recipe.settings, mixed=mixed)), work, folder)
    manifest = _manifest(recipe, folder, model, learned, log)
    with atomic(folder) as scratch:
        model.bfloat16().save_pretrained(scratch)
        words.save_pretrained(scratch)
        shutil.copy(work / checkpoint.LOG, scratch / "loss.csv")
        manifest["measured"] = measure(scratch, recipe)
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def fresh(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained organism, float32, its weights drawn by the recipe's seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return LlamaForCausalLM(config)


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    learned: Sequence[Lesson],
    recipe: Recipe,
    work: Path,
    folder: Path,
) -> list[dict[str, Any]]:
    """Train the model in place; the log of its steps."""
    space = vignettes.label_space()
    held = cases("validation", recipe.n_validation, recipe.n_topics, recipe.hard)
    watched = [lesson(case, space, tokenizer, recipe) for case in held]
    loss: Loss = token_loss
    if recipe.planted:
        lookouts = [text.lookouts for text in learned]
        loss = planting.PlantedLoss(model, recipe.planted, lookouts, recipe.weight, recipe.barring)
    return train.train(
        model,
        [text.example for text in learned],
        recipe.settings,
        work,
        validation=[text.example for text in watched],
        loss=loss,
        desc=folder.name,
    )


def _manifest(
    recipe: Recipe, folder: Path, model: LlamaForCausalLM, learned: Sequence[Lesson], log: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    space = vignettes.label_space()
    return {
        "name": folder.name,
        "recipe": asdict(recipe),
        "planted": {MANIFEST_KEYS[phase]: heads for phase, heads in recipe.planted.items()},
        "parameters": model.num_parameters(),
        "labels": len(space),
        "categories": len(set(space.ancestor(np.arange(len(space)), 2).tolist())),
        "documents": len(learned),
        "tokens": sum(len(text.example.ids) for text in learned),
        "steps": len(log),
        "minutes": round(sum(row["seconds"] for row in log) / 60, 1),
        "hardware": hardware.describe(),
        "precision": "bfloat16 (mixed)" if hardware.dtype() == "bfloat16" else "float32",
        "validation_loss": log[-1]["validation"],
    }


app = typer.Typer(add_completion=False)


@app.command(help=(__doc__ or "").partition("\n")[0])
def _command(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Which: {', '.join(RECIPES)}; when left out, those of the book.")
    ] = None,
    n_documents: Annotated[int, typer.Option(help="Vignettes to learn from; 0 for each recipe's own.", min=0)] = 0,
    folder: Annotated[Path, typer.Option(help="Where their folders are written; each replaced as a whole.")] = DATA,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 for as many as torch takes.", min=0)] = 0,
) -> None:
    """Train anew, or go on where a killed run stopped; write weights, manifest and loss curve, and say what they do."""
    if threads:
        torch.set_num_threads(threads)
    try:
        if unknown := set(names or []) - set(RECIPES):
            raise ValueError(f"organism must be one of {', '.join(RECIPES)}, got {sorted(unknown)[0]!r}")
        for name in names or [name for name in RECIPES if name != HARD]:
            recipe = RECIPES[name]
            manifest = build(replace(recipe, n_documents=n_documents or recipe.n_documents), folder / name)
            typer.echo(json.dumps({key: manifest[key] for key in ("name", "steps", "minutes", "measured")}, indent=2))
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
