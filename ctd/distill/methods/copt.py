"""CopT: answer first, and think only where the draft looks uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ctd.distill import examples
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.answering import AnsweringStudent
from ctd.distill.methods.texts import answer_examples, trace_examples
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.predict import Request
from ctd.reasoning.rank_answers import Prediction


def both_orders(experiment: Experiment) -> list[Example]:
    """Every trace twice: with its reasoning, and its answer at once."""
    return [*trace_examples(experiment), *answer_examples(experiment)]


def where_unsure(student: AnsweringStudent, threshold: float = 0.1) -> list[Prediction]:
    """The student answers at once, and reasons about a document only where that draft is uncertain.

    threshold: uncertainty from which on it reasons, in nats a token (ours; the source has another one for each data
        set, such as 0.6).

    Source: CopT, arXiv:2605.20075, as the authors' code has it. There the reasoning begins without the draft, and sees
    it after each chunk of its own whose uncertainty is below a second threshold. Here it never does, for these students
    did not learn to read a draft.
    """
    language_model = student.model.language_model
    assert isinstance(language_model, LanguageModel)
    answers = student.write(Request("answer"))
    drafts = [examples.answer_example(draft.trace, language_model.tokenizer) for draft in answers]
    doubts = [uncertainty(language_model.model, draft.ids, draft.n_prompt) for draft in drafts]
    unsure = [row for row, doubt in enumerate(doubts) if doubt > threshold]
    for row, thought in zip(unsure, student.write(rows=unsure) if unsure else [], strict=True):
        answers[row] = replace(thought, n_tokens=thought.n_tokens + answers[row].n_tokens)
    return answers


@torch.no_grad()
def uncertainty(model: Any, ids: Sequence[int], n_prompt: int) -> float:
    """How much likelier a draft is to a model that reads its tokens than to one that reads what it expected of each.

    In nats a token. It is 0 where the model was sure of every token. As in the authors' code, the first token is left
    out, before which both have read the same, and so is the end token; a draft of one token is certain.

    ids: tokens of prompt and draft, with the end token.
    n_prompt: how many are the prompt.
    """
    if len(ids) < n_prompt + 3:
        return 0.0
    tokens = torch.tensor([list(ids)], device=model.device)
    embedding = model.get_input_embeddings()
    log_p = draft_log_p(model(input_ids=tokens).logits, n_prompt)
    read = embedding(tokens)
    read[0, n_prompt:] = log_p.exp().to(read.dtype) @ embedding.weight
    expected = draft_log_p(model(inputs_embeds=read).logits, n_prompt)
    return contrast(log_p[1:-1], expected[1:-1], tokens[0, n_prompt + 1 : -1])


def draft_log_p(logits: Float[Tensor, "1 s v"], n_prompt: int) -> Float[Tensor, "n v"]:
    """The log-probabilities of each token of a draft."""
    return logits[0, n_prompt - 1 : -1].float().log_softmax(-1)


def contrast(log_p: Float[Tensor, "n v"], expected: Float[Tensor, "n v"], draft: Tensor) -> float:
    """How much likelier the tokens of a draft are under the first distributions than under the second: a mean."""
    place = draft[:, None]
    return float((log_p.gather(1, place) - expected.gather(1, place)).mean())
