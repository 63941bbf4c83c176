"""What a student's answers are worth, and what it took to teach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd.distill import train
from ctd.distill.examples import Example, collate
from ctd.distill.token_loss import token_loss
from ctd.reasoning import rank_answers
from ctd.reasoning.rank_answers import Prediction
from ctd.retrieval import metrics
from ctd.retrieval import shortlists as sl

MEASURES = ("exact_match", "ndcg@5", "shortlist_recall", "token_probability", "tokens")


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trained student: its answers on the test documents, and what it took.

    arm: name of its arm.
    seed: of its training.
    values: each of `MEASURES`, for every document.
    answers: its labels for every document, best first.
    cots: its reasoning about every document.
    steps: optimizer steps that it took.
    tokens: tokens that it learned from, padding counted.
    seconds: seconds of training.
    step_seconds: median seconds of a full step.
    answer_seconds: seconds to answer a document.
    loss: mean loss of the last ten steps, in nats a token.
    chosen_step: how many steps its weights have taken: fewer than `steps` where an earlier checkpoint was better on
        validation documents.
    """

    arm: str
    seed: int
    values: dict[str, Float[np.ndarray, " n"]]
    answers: list[list[int]]
    cots: list[str]
    steps: int
    tokens: int
    seconds: float
    step_seconds: float
    answer_seconds: float
    loss: float
    chosen_step: int


def of_answers(answers: Sequence[Prediction], gold: csr_matrix) -> dict[str, Float[np.ndarray, " n"]]:
    """What every answer is worth: `MEASURES`, but for token_probability.

    exact_match: 1 where the answer is exactly the gold labels.
    shortlist_recall: share of the gold labels that the shortlist names.
    tokens: how many tokens were written.
    """
    gold_sets = [set(row.indices.tolist()) for row in gold]
    shortlists = sl.as_array([answer.trace.shortlisted for answer in answers])
    exact = [set(answer.ranking) == labels for answer, labels in zip(answers, gold_sets, strict=True)]
    return {
        "exact_match": np.array(exact, float),
        "ndcg@5": metrics.ndcg_at_k(rank_answers.rankings(answers, 5), gold, 5, average=False),
        "shortlist_recall": metrics.recall_at_k(shortlists, gold, shortlists.shape[1], average=False),
        "tokens": np.array([answer.n_tokens for answer in answers], float),
    }


@torch.no_grad()
def token_probability(student: Any, examples: Sequence[Example], mixed: bool = False) -> Float[np.ndarray, " n"]:
    """The probability that a student gives to the next token of each text. Our definition.

    It is the geometric mean over the text's tokens, and the finest measure of how near a student came to its teacher:
    every token of every text counts.
    examples: the texts, such as the teacher's about the test documents.
    mixed: compute in bfloat16 where that loses little.
    """
    model = train.Trainee(student, token_loss, mixed)
    batches = [collate([example], [0], student.device) for example in examples]
    return np.array([np.exp(-model(batch).item() / batch.n_targets) for batch in batches])
