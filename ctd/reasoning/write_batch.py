"""One batch of prompts, written by a model that is loaded here.

Notes: texts that have ended leave their batch every few tokens. Only the end and padding tokens of a model's own
generation settings are heeded here; `ctd.reasoning.natural` asks for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LogitsProcessor, RepetitionPenaltyLogitsProcessor, StoppingCriteria

from ctd.reasoning import roomy_cache
from ctd.reasoning.architecture import rows_may_leave
from ctd.reasoning.completions import Completion
from ctd.reasoning.fast_decoding import fast_decoding
from ctd.reasoning.grammar import LabelLists, OnlyLabels
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling

PIECE = 32  # tokens that a batch writes before the finished texts leave it
SHARED = 16  # tokens that prompts must begin with for these to be read once
NOT_WHOLE = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character are decoded to


def write(
    language_model: LanguageModel,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    lists: LabelLists | None = None,
) -> list[Completion]:
    """What the model writes after each prompt of one batch, in the order given.

    prompts: the token ids of each prompt.
    sampling: how to write. The seed is the caller's business.
    lists: the labels that items of lists may be; None for any text.
    """
    batch = _Batch(language_model, prompts, sampling, lists)
    with fast_decoding(language_model.model, len(prompts)):
        batch.read_shared()
        while batch.unfinished and batch.n_left:
            batch.write_piece()
    return [batch.completion(row) for row in range(len(prompts))]


def greedily(
    model: Any,
    n_tokens: int,
    input_ids: Int[Tensor, "b n"],
    attention_mask: Int[Tensor, "b n"],
    forced: Int[Tensor, "b m"] | None = None,
) -> Any:
    """What the library writes, the likeliest token each time: its `sequences`, and the `logits` of each step.

    forced: rows, with their prompts, that are written instead; the logits are those of the model all the same.
    """
    config = GenerationConfig(
        max_new_tokens=n_tokens,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
        disable_compile=True,
    )
    processors = [] if forced is None else [_Forced(forced)]
    return _by_these_settings(
        model, config, input_ids=input_ids, attention_mask=attention_mask, logits_processor=processors
    )


class _Batch:
    """A batch while it is written: the rows that go on, and what every row has written so far."""

    def __init__(
        self,
        language_model: LanguageModel,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        lists: LabelLists | None,
    ) -> None:
        model: Any = language_model.model
        tokenizer: Any = language_model.tokenizer
        self.model, self.tokenizer, self.prompts, self.sampling = model, tokenizer, prompts, sampling
        cache = roomy_cache.for_model(model)
        self.cache = cache if cache is not None and rows_may_leave(cache) else None
        self.n_shared = _n_shared(prompts) if roomy_cache.has_room(self.cache) else 0
        ids, mask = _padded(prompts, tokenizer.pad_token_id, self.n_shared)
        self.ids, self.mask, self.n_prompt = ids.to(model.device), mask.to(model.device), ids.shape[1]
        self.grammar = [OnlyLabels(lists)] if lists else []
        penalty = sampling.repetition_penalty
        self.penalty = [RepetitionPenaltyLogitsProcessor(penalty)] if penalty != 1 else []
        self.end_tokens = end_tokens(model, tokenizer)
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.logprobs: list[list[float]] = [[] for _ in prompts]
        self.ended: set[int] = set()  # rows that wrote an end token
        self.unfinished = list(range(len(prompts)))

    @property
    def n_left(self) -> int:
        """How many tokens each unfinished row may still write."""
        return self.sampling.max_tokens + self.n_prompt - self.ids.shape[1]

    def read_shared(self) -> None:
        """Read once what all prompts begin with."""
        if self.n_shared and self.cache is not None:
            with torch.no_grad():
                decoder, shared = self.model.get_decoder(), self.ids[:1, : self.n_shared]
                decoder(input_ids=shared, past_key_values=self.cache, use_cache=True)
                self.cache.batch_repeat_interleave(len(self.ids))

    def write_piece(self) -> None:
        """Let the unfinished rows write a few tokens; those that have ended leave the batch."""
        certainty, stops = _Certainty(), _Stops(self.tokenizer, self.sampling.stop, self.n_prompt)
        written = _by_these_settings(
            self.model,
            self._config(),
            input_ids=self.ids,
            attention_mask=self.mask,
            **({} if self.cache is None else {"past_key_values": self.cache}),
            logits_processor=[certainty, *self.penalty, *self.grammar],
            stopping_criteria=[stops] if self.sampling.stop else None,
        )
        new = written[:, self.ids.shape[1] :]
        self._note(new.tolist(), certainty.logprobs(new).tolist())
        staying = [
            place for place, row in enumerate(self.unfinished) if row not in self.ended and place not in stops.ended
        ]
        self._keep(staying, written)

    def completion(self, row: int) -> Completion:
        """What a row has written, as far as its first stop string."""
        tokens = self.tokens[row]
        text, offsets = _spell(self.tokenizer, self.prompts[row], tokens)
        logprobs = tuple(self.logprobs[row])
        whole = Completion(text, row in self.ended, len(tokens), offsets, logprobs, tuple(tokens))
        return _cut(whole, self.sampling.stop)

    def _config(self) -> GenerationConfig:
        sampling = self.sampling
        drawing = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        return GenerationConfig(
            max_new_tokens=min(self.n_left, PIECE) if self.cache is not None else self.n_left,
            do_sample=bool(sampling.temperature),
            eos_token_id=sorted(self.end_tokens) or None,
            pad_token_id=self.tokenizer.pad_token_id,
            disable_compile=True,
            **(drawing if sampling.temperature else {}),
        )

    def _note(self, new: list[list[int]], logprobs: list[list[float]]) -> None:
        for row, tokens, certain in zip(self.unfinished, new, logprobs, strict=True):
            end = next((place for place, token in enumerate(tokens) if token in self.end_tokens), None)
            self.tokens[row] += tokens[:end]
            self.logprobs[row] += certain[:end]
            if end is not None:
                self.ended.add(row)

    def _keep(self, places: list[int], written: Int[Tensor, "b n"]) -> None:
        """Go on with the rows at these places alone."""
        staying = torch.tensor(places, dtype=torch.int64, device=written.device)
        new = torch.ones_like(written[:, self.ids.shape[1] :])
        self.mask = torch.cat([self.mask, new], 1)[staying]
        self.ids, self.unfinished = written[staying], [self.unfinished[place] for place in places]
        if self.cache is not None and len(places) < len(written):
            self.cache.batch_select_indices(staying)
        for processor in self.grammar:
            processor.keep(places)


def _n_shared(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with; 0 where it is not worth reading them apart."""
    if len(prompts) == 1:
        return 0
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    n_shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return n_shared if n_shared >= SHARED else 0


def _padded(prompts: Sequence[list[int]], pad: int, n_shared: int) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
    """The prompts' tokens, padded on the left of what they do not share, and the mask of what is not padding."""
    shared = torch.tensor([prompts[0][:n_shared]] * len(prompts), dtype=torch.int64)
    rows = [torch.tensor(row[n_shared:]) for row in prompts]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
    return torch.cat([shared, ids], 1), torch.cat([torch.ones_like(shared), mask], 1)


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The tokens that end a text, by the model's own settings and by its tokenizer."""
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    return {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}


def _by_these_settings(model: Any, config: GenerationConfig, **inputs: Any) -> Int[Tensor, "b n"]:
    """`model.generate` by the settings given alone: the library takes from the model's own what a call leaves open."""
    models_own = model.generation_config
    model.generation_config = config
    try:
        return model.generate(generation_config=config, **inputs)
    finally:
        model.generation_config = models_own


class _Forced(LogitsProcessor):
    """Leaves the next token of given rows as the only choice."""

    def __init__(self, rows: Int[Tensor, "b m"]) -> None:
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tokens = self.rows[:, input_ids.shape[1], None].to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)


class _Certainty(LogitsProcessor):
    """Notes how likely each chosen token was by the raw logits, in float32, and keeps those of one step only."""

    def __init__(self) -> None:
        self.chosen: list[Float[Tensor, " b"]] = []
        self.last: Float[Tensor, "b vocabulary"] | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._note(input_ids[:, -1])
        self.last = scores.float().clone()  # what comes after may change the scores in place
        self.norm = self.last.logsumexp(-1)
        if not self.norm.isfinite().all():
            raise ValueError(
                f"the model's logits are no finite numbers at generated token {len(self.chosen)}: its weights are "
                "damaged, or overflow their dtype (try bfloat16 or float32)"
            )
        return scores

    def _note(self, tokens: Int[Tensor, " b"]) -> None:
        if self.last is not None:
            self.chosen.append(self.last.gather(1, tokens[:, None])[:, 0] - self.norm)

    def logprobs(self, written: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """The log-probabilities of all that was written (nats)."""
        if len(self.chosen) < written.shape[1]:
            self._note(written[:, -1])
        return torch.stack(self.chosen[: written.shape[1]], 1)


class _Stops(StoppingCriteria):
    """Ends a row when what was written holds a stop string; the prompt does not count."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], n_prompt: int) -> None:
        self.tokenizer, self.stop, self.n_prompt = tokenizer, stop, n_prompt
        self.window = max((len(text.encode()) for text in stop), default=0) + 4  # each token writes a byte or more
        self.ended: set[int] = set()

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Bool[Tensor, " b"]:
        first = max(self.n_prompt, input_ids.shape[1] - self.window)
        for place, tokens in enumerate(input_ids[:, first - 1 :].tolist()):
            if place not in self.ended:
                new = _decode(self.tokenizer, tokens)[len(_decode(self.tokenizer, tokens[:1])) :]
                if any(text in new for text in self.stop):
                    self.ended.add(place)
        return torch.tensor([place in self.ended for place in range(len(input_ids))], device=input_ids.device)


def _decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _spell(tokenizer: Any, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of the tokens that follow the prompt's, and the characters of it that each wrote a part of."""
    text, offsets = "", []
    before = list(prompt)
    read = _decode(tokenizer, before)
    pending: list[int] = []
    drafts: list[str] = []  # what the pending tokens read as after each of them
    for place, token in enumerate(tokens):
        pending.append(token)
        draft = _decode(tokenizer, before + pending)
        drafts.append(draft[len(read) :] if draft.startswith(read) else NOT_WHOLE)
        if drafts[-1].endswith(NOT_WHOLE) and place < len(tokens) - 1:
            continue
        final, end = drafts[-1], 0
        for draft in drafts:
            shared = takewhile(lambda pair: pair[0] == pair[1], zip(draft, final, strict=False))
            start, end = end, max(end, sum(1 for _ in shared))
            half_written = draft != final[:end] and end < len(final)
            offsets.append((len(text) + start, len(text) + end + half_written))
        text += final
        before = pending if final else before + pending
        read, pending, drafts = _decode(tokenizer, before), [], []
    return text, tuple(offsets)


def _cut(completion: Completion, stop: Sequence[str]) -> Completion:
    """The completion as far as the first stop string in it."""
    stops = [start for start in map(completion.text.find, stop) if start >= 0]
    if not stops:
        return completion
    text = completion.text[: min(stops)]
    places = [place for place, (start, _) in enumerate(completion.offsets) if start < len(text)]
    offsets = tuple((start, min(end, len(text))) for start, end in (completion.offsets[place] for place in places))
    logprobs = tuple(completion.logprobs[place] for place in places)
    return Completion(text, True, len(places), offsets, logprobs, tuple(completion.ids[place] for place in places))
