"""What a trained organism does: how often it is right, phase by phase, and whether it needs its planted heads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctd.data.label_space import LabelSpace
from ctd.data.readers import organism as vignettes
from ctd.data.readers.organism import Case
from ctd.distill.examples import IGNORED, Example, batches, collate
from ctd.distill.settings import Settings
from ctd.distill.token_loss import token_loss
from ctd.mechanism.attention import Head
from ctd.mechanism.planted_heads import MANIFEST_KEYS
from ctd.reasoning import models, prompts, read_text, traces
from ctd.reasoning.generate import generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling
from ctd.reasoning.traces import Trace
from ctd.recipes import planting
from ctd.recipes.organism_recipe import Recipe
from ctd.recipes.organism_texts import Lesson, cases, lesson


def measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """What an organism gets right on test vignettes: each phase by itself, with chance in its place, and in all.

    All are shares of documents, by greedy decoding, with lists kept to labels:
    topics: categories named are those of the gold labels.
    shortlist_recall: of gold labels.
    answer: exactly the gold labels.
    answer_given_shortlist: with a right CoT up to the comparisons put in its place.
    answer_by_chance_phase1: with another document's.
    answer_by_chance_phase2: one of the own shortlist's codes of each named category, drawn (expected value).
    planted: see `_mechanism`.
    """
    space = vignettes.label_space()
    language_model = models.load(str(folder), dtype="float32")
    drawn = cases("test", recipe.n_test, recipe.n_topics, recipe.hard)
    lessons = [lesson(case, space, language_model.tokenizer, recipe) for case in drawn]
    right = [re.split(r"(?<=\nCompare:\n)", traces.format(example.trace))[0] for example in lessons]
    unaided = _write(language_model, space, lessons, [""] * len(drawn))
    given_shortlist = _write(language_model, space, lessons, right)
    given_another = _write(language_model, space, lessons, [*right[1:], right[0]])
    named = [_topics(written, space) for written in unaided]
    gold_topics = [set(space.ancestor(np.array(case.labels), 2).tolist()) for case in drawn]
    listed = [len(set(written.shortlisted) & set(case.labels)) for written, case in zip(unaided, drawn, strict=True)]
    measured: dict[str, Any] = {
        "documents": len(drawn),
        "in_format": float(np.mean([not written.error for written in unaided])),
        "topics": float(np.mean([names == gold for names, gold in zip(named, gold_topics, strict=True)])),
        "shortlist_recall": sum(listed) / sum(len(case.labels) for case in drawn),
        "answer": _exact(unaided, drawn),
        "answer_given_shortlist": _exact(given_shortlist, drawn),
        "answer_by_chance_phase1": _exact(given_another, drawn),
        "answer_by_chance_phase2": float(
            np.mean([_by_chance(*parts, space) for parts in zip(unaided, named, drawn, strict=True)])
        ),
    }
    return measured | ({"planted": _mechanism(language_model.model, lessons, recipe)} if recipe.planted else {})


def _write(
    language_model: LanguageModel, space: LabelSpace, lessons: Sequence[Lesson], beginnings: Sequence[str]
) -> list[Trace]:
    """What the organism writes about each case behind a given beginning, read as traces."""
    lists = LabelLists(space, language_model.tokenizer)
    longest = max(len(lesson.example.ids) - lesson.example.n_prompt for lesson in lessons) + 40
    begun_prompts = [prompts.plain(lesson.case.text) + start for lesson, start in zip(lessons, beginnings, strict=True)]
    texts = generate(language_model, begun_prompts, Sampling(longest), lists=lists, desc="measuring")
    return [
        read_text.read(start + written.text, space, uid=lesson.case.uid, document=lesson.case.text)
        for start, written, lesson in zip(beginnings, texts, lessons, strict=True)
    ]


def _exact(answers: Sequence[Trace], drawn: Sequence[Case]) -> float:
    """The share of answers that are exactly the gold labels."""
    hits = [set(written.answered) == set(case.labels) for written, case in zip(answers, drawn, strict=True)]
    return float(np.mean(hits))


def _topics(written: Trace, space: LabelSpace) -> set[int]:
    """The categories that a trace's topics line names; -1 for what is none."""
    known = {text: node for node, text in enumerate(space.texts) if space.depth[node] == 2}
    line = re.match(r"Topics: (.*)", written.cot)
    return {known.get(name, -1) for name in line[1].split("; ")} if line else set()


def _by_chance(written: Trace, named: set[int], case: Case, space: LabelSpace) -> float:
    """How likely one code drawn from the shortlist for each category named is the whole gold answer."""
    if named != set(space.ancestor(np.array(case.labels), 2).tolist()):
        return 0.0
    listed = np.array(written.shortlisted, np.int32)
    above = space.ancestor(listed, 2).tolist() if len(listed) else []
    return float(
        np.prod(
            [
                1 / above.count(int(space.ancestor(np.array([label]), 2)[0])) if label in listed else 0.0
                for label in case.labels
            ]
        )
    )


def _mechanism(model: Any, lessons: Sequence[Lesson], recipe: Recipe) -> dict[str, Any]:
    """Whether the planted heads look where they were taught to, and whether the model needs what they write.

    For each phase:
    mass: the share of attention on the targets, mean over the planted heads.
    mass_others: the same over all other heads.
    mass_highest_other: the highest of these.
    loss: of the lookouts' tokens (nats, mean), as it is, with the planted heads silent, and with as many others of the
        same layer silent.
    """
    examples, lookouts = [lesson.example for lesson in lessons], [lesson.lookouts for lesson in lessons]
    shares = planting.mass(model, examples, lookouts, recipe.planted)
    report: dict[str, Any] = {}
    for phase, planted in recipe.planted.items():
        rest = shares[phase].copy()
        rest[tuple(zip(*planted, strict=True))] = np.nan
        layer = planted[0].layer
        others = [Head(layer, head) for head in range(recipe.heads) if Head(layer, head) not in planted]
        queries = [{lookout.query for lookout in by_phase[phase]} for by_phase in lookouts]
        losses = {}
        for name, silent in (("whole", []), ("planted_silent", planted), ("others_silent", others[: len(planted)])):
            with planting.silenced(model, silent):
                losses[name] = _loss_at(model, examples, queries)
        report[MANIFEST_KEYS[phase]] = {
            "mass": float(np.mean([shares[phase][head] for head in planted])),
            "mass_others": float(np.nanmean(rest)),
            "mass_highest_other": float(np.nanmax(rest)),
            "loss": losses,
        }
    return report


@torch.no_grad()
def _loss_at(model: Any, examples: Sequence[Example], queries: Sequence[set[int]]) -> float:
    """Mean cross-entropy (nats) of the tokens written from the given positions."""
    total, count = 0.0, 0
    for rows in batches(examples, Settings()):
        batch = collate(examples, rows, model.device)
        targets = torch.full_like(batch.targets, IGNORED)
        for place, row in enumerate(rows):
            chosen = sorted(queries[row])
            targets[place, chosen] = batch.targets[place, chosen]
        total += float(token_loss(model, batch._replace(targets=targets)))
        count += int((targets != IGNORED).sum())
    return total / count
