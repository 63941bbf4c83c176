"""What a model writes with some of its heads silenced: their attention is spread evenly over all that they see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from ctd.mechanism import attention_patches
from ctd.mechanism.attention import Head
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.traces import CLOSE

AT_ONCE = 40  # texts


@torch.no_grad()
def write(
    language_model: LanguageModel, trace: AnnotatedTrace, sets: Sequence[Sequence[Head]], max_tokens: int
) -> list[str]:
    """What the model writes after the prompt, greedily, with each set of heads silenced while it writes.

    trace: of the document; the prompt is read undisturbed.
    sets: of heads; an empty set disturbs nothing.
    max_tokens: written at most.
    Returns CoT and answer, without the tags around the CoT.
    """
    return [
        written
        for first in range(0, len(sets), AT_ONCE)
        for written in _batch(language_model, trace, sets[first : first + AT_ONCE], max_tokens)
    ]


def _batch(
    language_model: LanguageModel, trace: AnnotatedTrace, sets: Sequence[Sequence[Head]], max_tokens: int
) -> list[str]:
    model: Any = language_model.model
    tokenizer: Any = language_model.tokenizer
    sizes, start = architecture.shape(model), trace.cot.start + 1
    masks = torch.zeros(len(sets), sizes.layers, sizes.heads, dtype=torch.bool)
    for row, heads in enumerate(sets):
        for layer, head in heads:
            masks[row, layer, head] = True
    queries = torch.zeros(len(sets), start, dtype=torch.bool)
    queries[:, -1] = True
    ids = torch.tensor([trace.ids[:start]] * len(sets), device=model.device)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = GenerationConfig(max_new_tokens=max_tokens, do_sample=False, **ends)
    with attention_patches.patch(model, masks, noise="uniform", queries=queries):
        tokens = model.generate(ids, generation_config=config)[:, start:]
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [written.replace(CLOSE, "\n\n", 1).rstrip("\n") for written in texts]
