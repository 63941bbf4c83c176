"""How well every score finds the planted heads of an organism, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from ctd.data.label_space import LabelSpace
from ctd.data.readers.organism import Case
from ctd.mechanism import heads, planted_heads, validation
from ctd.reasoning import annotate, architecture, models
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.models import LanguageModel
from ctd.recipes import organism_texts
from ctd.recipes.organism_recipe import Recipe

FOUND = 0.9  # AUROC above which a score finds the planted heads

Direction = Literal["unembedding", "mentions"]


def constructed_traces(
    language_model: LanguageModel, cases: Sequence[Case], space: LabelSpace, direction: Direction = "unembedding"
) -> tuple[list[AnnotatedTrace], Mapping[str, int]]:
    """Traces constructed of vignettes, annotated for a model, and how many were left out for each reason.

    language_model: whose tokens and context window count.
    cases: the vignettes.
    space: their label space.
    direction: with "mentions", traces that mention no anchor are left out too, without being counted.
    Raises what `annotate.annotate_traces` raises.
    """
    constructed = [organism_texts.trace(case, space, Recipe.seed) for case in cases]
    gold, anchors = [case.labels for case in cases], [space.anchors(case.labels, 2).tolist() for case in cases]
    window = architecture.context(language_model.model)
    traces, left_out = annotate.annotate_traces(constructed, gold, anchors, space, language_model.tokenizer, window)
    return [trace for trace in traces if direction != "mentions" or trace.anchor_mentions], left_out


def ratings_on(
    name: str,
    cases: Sequence[Case],
    space: LabelSpace,
    direction: Direction = "unembedding",
    seed: int = 0,
) -> pd.DataFrame:
    """The AUROC of every score for the planted heads of an organism, on traces constructed of vignettes.

    name: of an organism with planted heads, or its folder.
    cases: the vignettes.
    space: their label space.
    direction: where the anchor direction of CoarseScore comes from, as in `heads.score`.
    seed: of the traces and the bootstrap samples.
    Returns the columns of `validation.ratings`, and organism and phase.
    Raises what `planted_heads.planted_heads` and `heads.score` raise.
    """
    known, language_model = planted_heads.planted_heads(name), models.load(name, dtype="float32")
    traces, _ = constructed_traces(language_model, cases, space, direction)
    scored = heads.score(language_model.model, traces, direction, n_effects=len(traces), with_others=True)
    tables = []
    for phase, planted in known.items():
        values = {score: scored.raw(score)[:, 0] for score in scored.names(phase)}
        tables.append(validation.ratings(values, planted, seed=seed).assign(organism=name, phase=phase))
    return pd.concat(tables, ignore_index=True)


def found_on(ratings: pd.DataFrame) -> pd.DataFrame:
    """Scores by organisms: the AUROC, and on how many organisms the score finds the planted heads (`FOUND`).

    ratings: rows of `ratings_on` for several organisms.
    Returns a row for each phase and score, the best first: an AUROC for each organism, and found.
    """
    wide = ratings.pivot_table(index=["phase", "score"], columns="organism", values="auroc", sort=False)
    wide["found"] = (wide > FOUND).sum(axis=1)
    return wide.sort_values(["phase", "found"], ascending=[True, False], kind="stable").reset_index()
