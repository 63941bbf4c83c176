"""Models with random weights, in which there is nothing to find: how often do the scores find something all the same?

Notes: the negative control of the scores; that of patching is `patching_controls.null_runs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM

from ctd import hardware, stats, workers
from ctd.mechanism import attention, heads, phases, validation
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning.annotate import AnnotatedTrace

DRAWS = 200  # bootstrap samples of documents in a run


def random_model(model: Any, seed: int) -> Any:
    """A model of the same architecture whose weights are drawn anew by seed, on the same device."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(model.config).to(model.device).eval()


def null_scores(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    known: Mapping[Phase, Sequence[Head]],
    n_models: int,
    direction: heads.Direction = "unembedding",
    seed: int = 0,
) -> pd.DataFrame:
    """Whether each score finds the known heads in models with random weights, whose heads do nothing in particular.

    It finds them, as in the ledger, where its AUROC less that of random heads has an interval above 0.
    model: whose architecture is used.
    traces: of the documents that heads are scored on.
    known: heads of each phase, which mean nothing in these models.
    n_models: how many are drawn, by seed, seed + 1, ...
    direction, errors: as in `heads.score`.
    Returns columns score, phase, model, auroc and passes: a row for each run.
    """
    n_heads = len(attention.all_heads(model))
    chance = {phase: validation.random_auroc(n_heads, len(planted)) for phase, planted in known.items()}
    shared, seeds = _Null(model, traces, known, chance, direction), range(seed, seed + n_models)
    with tqdm(total=n_models, desc="random weights, scores", unit=" models") as bar:
        by_model = list(workers.run(_null, seeds, shared, workers=int(hardware.on_accelerator(model)), bar=bar))
    rows = [row for of_model in by_model for row in of_model]
    return phases.table(rows, ["score", "phase", "model", "auroc", "passes"])


def false_positives(runs: pd.DataFrame) -> tuple[stats.Interval, pd.DataFrame]:
    """How often runs on random weights find something: share with Student's interval over models, and by instrument.

    runs: as from `null_scores` or `patching_controls.null_runs`.
    Returns the share (its interval is NaN for one model), and a table with columns tool (instrument or score), share
    and n (runs), the highest share first.
    """
    share = stats.t_interval(runs.groupby("model")["passes"].mean().to_numpy())
    names = runs["score"] if "score" in runs else runs["intervention"] + ", " + runs["instrument"]
    by_tool = runs["passes"].groupby(names.rename("tool"), sort=False).agg(share="mean", n="size").reset_index()
    return share, by_tool.sort_values("share", ascending=False, kind="stable", ignore_index=True)


class _Null(NamedTuple):
    """What all runs share; the fields are the arguments of `null_scores`, and the AUROC of random heads."""

    model: Any
    traces: Sequence[AnnotatedTrace]
    known: Mapping[Phase, Sequence[Head]]
    chance: Mapping[Phase, stats.Interval]
    direction: heads.Direction


def _null(shared: _Null, seed: int) -> list[tuple[str, Phase, int, float, bool]]:
    """A row for each score, on one model."""
    scored = heads.score(random_model(shared.model, seed), shared.traces, shared.direction, with_others=True, desc=None)
    rows = []
    for phase, known in shared.known.items():
        values = {name: scored.raw(name)[:, 0] for name in scored.names(phase)}
        ratings = validation.ratings(values, known, DRAWS)
        for score, *ends in ratings[["score", "auroc", "low", "high"]].itertuples(index=False):
            less_chance = stats.Interval(*map(np.array, ends)).less(shared.chance[phase])
            rows.append((str(score), phase, seed, float(ends[0]), less_chance.scalar[1] > 0))
    return rows
