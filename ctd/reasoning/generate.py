"""Text that a reasoning model writes after its prompts: in batches, each token with its log-probability, resumable.

Notes: finished batches are kept (see `ctd.reasoning.completions`) under a digest of the model's key, the prompts and
the settings. A call that was killed goes on with the batches it lacks, composed as before: what a model writes depends
a little on what stands beside it (padding changes the order of sums), so only then is the result that of an unbroken
run. Texts that have ended leave their batch every few tokens. Only the end and padding tokens of a model's own
generation settings are heeded: no repetition penalty, no top-k.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, StoppingCriteria

from ctd.cache import digest
from ctd.reasoning import architecture
from ctd.reasoning.completions import Completion, Kept
from ctd.reasoning.grammar import LabelLists, OnlyLabels
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling

if TYPE_CHECKING:
    from ctd.reasoning.serve import Server

FORMAT = "generate 2"  # of the kept files: another one begins anew
ROWS, WIDE = 64, 512  # prompts of one batch at most, and of a wider one
PIECE = 32  # tokens that a batch writes before the finished texts leave it
NOT_WHOLE = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character are decoded to


def generate(
    model: LanguageModel | Server,
    prompts: Sequence[str],
    *,
    max_tokens: int = 640,
    batch_tokens: int = 16_384,
    wider: int = 0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    max_prompt_tokens: int | None = None,
    lists: LabelLists | None = None,
    desc: str = "generating",
) -> list[Completion]:
    """What the model writes after each prompt, in the order given; what was written before is read from the cache.

    model: its `key` must name its weights: a model that was changed in memory (trained, or with hooks that change what
        it computes) needs another key.
    prompts: taken as they stand; no special tokens are added.
    max_tokens: written after a prompt at most.
    batch_tokens: of a batch at most, so that memory is bounded: prompts are padded, and max_tokens counts for each.
        One prompt alone may be longer. The longest prompts come first.
    wider: as batch_tokens, for more prompts at once. Used where nothing is kept of the narrower batches and memory
        allows; 0 for never.
    temperature: 0 takes the likeliest token.
    top_p: tokens are drawn from the likeliest that make up so much of the probability.
    seed: of what is drawn.
    stop: strings that end a text.
    max_prompt_tokens: a bound below the one that the model's context sets.
    lists: items of lists may only be these labels, none twice in a list; log-probabilities stay the model's own. Not
        for a server.
    desc: what the progress bar and the book's list of texts say.
    Raises ValueError for settings out of bounds, an empty prompt, a prompt too long for the model, or logits that are
    no numbers; MemoryError when a batch does not fit the accelerator.
    """
    for name, given in (("prompts", prompts), ("stop", stop)):
        if isinstance(given, str):
            raise ValueError(f"{name} must be a list of strings, got the string {given[:40]!r}")
    sampling = Sampling(max_tokens, float(temperature), float(top_p), seed, tuple(stop))
    for name, bound in (("batch_tokens", batch_tokens), ("max_prompt_tokens", max_prompt_tokens)):
        if bound is not None and bound < 1:
            raise ValueError(f"{name} must be at least 1, got {bound}")
    if not prompts:
        return []
    settings = [sampling.decisive, *prompts]
    if isinstance(model, LanguageModel):
        ids = _tokens(model, prompts, max_tokens, max_prompt_tokens)
        lengths, precision = [len(row) for row in ids], str(model.model.dtype).removeprefix("torch.")
        kept = _kept(model, settings, batches(lengths, max_tokens, batch_tokens), lists)
        if wider and kept.missing == [*range(len(kept.batches))]:
            wide = _kept(model, settings, batches(lengths, max_tokens, wider, WIDE), lists)
            with suppress(MemoryError):  # where another program takes that memory, narrow ones may still fit
                writing = _write_all(model, ids, wide.batches, wide.missing, sampling, lists)
                return _completed(wide, writing, desc, precision)
        writing = _write_all(model, ids, kept.batches, kept.missing, sampling, lists)
    else:
        if lists is not None:
            raise ValueError("lists= is for models loaded here, a server is not kept to it: leave it out")
        if max_prompt_tokens is not None:
            raise ValueError(
                "max_prompt_tokens is for models loaded here, a server counts its own tokens: leave it out"
            )
        if empty := [row for row, prompt in enumerate(prompts) if not prompt]:
            raise ValueError(_empty(empty[0]))
        kept, precision = Kept(digest([FORMAT, model.key, *settings]), [[row] for row in range(len(prompts))]), ""
        writing = _ask_all(model, prompts, kept.missing, sampling)
    return _completed(kept, writing, desc, precision)


def _completed(
    kept: Kept, writing: Iterator[tuple[int, list[Completion]]], desc: str, precision: str
) -> list[Completion]:
    """What is kept, and what is still to be written: each batch is kept as it comes."""
    if kept.missing:
        n_written, began = 0, time.perf_counter()
        n_prompts, n_missing = sum(map(len, kept.batches)), sum(len(kept.batches[number]) for number in kept.missing)
        with tqdm(total=n_prompts, initial=n_prompts - n_missing, desc=desc, unit=" documents") as bar:
            for number, completions in writing:
                kept.add(number, completions)
                n_written += sum(completion.n_tokens for completion in completions)
                bar.set_postfix(tokens_a_second=f"{n_written / (time.perf_counter() - began):.0f}", refresh=False)
                bar.update(len(completions))
    kept.close(desc, precision)
    return kept.completions()


def _empty(row: int) -> str:
    return f"prompt {row} is empty: a model needs at least one token to go on from"


def _tokens(
    language_model: LanguageModel, prompts: Sequence[str], max_tokens: int, max_prompt_tokens: int | None
) -> list[list[int]]:
    """The prompts' token ids, all of them within bounds."""
    encoded: Any = language_model.tokenizer(list(prompts), add_special_tokens=False, truncation=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    context = architecture.context(language_model.model)
    for row, tokens in enumerate(ids):
        if not tokens:
            raise ValueError(_empty(row))
        if max_prompt_tokens and len(tokens) > max_prompt_tokens:
            raise ValueError(
                f"prompt {row} must have at most {max_prompt_tokens} tokens (max_prompt_tokens), got {len(tokens)}"
            )
        if context and len(tokens) > context - max_tokens:
            raise ValueError(
                f"prompt {row} must have at most {max(context - max_tokens, 0)} tokens (the model's context of "
                f"{context} less max_tokens {max_tokens}), got {len(tokens)}: cut the document, or lower max_tokens"
            )
    return ids


def _kept(
    language_model: LanguageModel, settings: Sequence[str], together: list[list[int]], lists: LabelLists | None
) -> Kept:
    """What is kept of these batches, in the cache or with the book."""
    told = [*settings, repr(together), lists.key if lists else ""]
    own, in_book = (
        digest([FORMAT, key, *told]) if key else "" for key in (language_model.key, language_model.book_key)
    )
    return Kept(own, together, in_book)


def batches(lengths: Sequence[int], max_tokens: int, batch_tokens: int, rows: int = ROWS) -> list[list[int]]:
    """Which prompts go side by side: of about equal length, the longest first.

    lengths: tokens of each prompt.
    max_tokens: written after each prompt.
    batch_tokens: of a batch at most, padding counted (or one prompt alone).
    rows: of a batch at most.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        last = groups[-1] if groups else []
        fits = last and (len(last) + 1) * (lengths[last[0]] + max_tokens) <= batch_tokens
        if fits and len(last) < rows:
            last.append(row)
        else:
            groups.append([row])
    return groups


def _write_all(
    language_model: LanguageModel,
    ids: Sequence[list[int]],
    batches: Sequence[list[int]],
    missing: Sequence[int],
    sampling: Sampling,
    lists: LabelLists | None,
) -> Iterator[tuple[int, list[Completion]]]:
    for number in missing:
        rows = [ids[row] for row in batches[number]]
        try:
            # What is drawn depends on seed and batch alone, and the caller's own draws not on what is drawn here.
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                torch.manual_seed(sampling.batch_seed(number))
                completions = _write(language_model, rows, sampling, lists)
        except torch.OutOfMemoryError as error:
            longest = max(map(len, rows)) + sampling.max_tokens
            raise MemoryError(
                f"{len(rows)} prompts of up to {longest} tokens, max_tokens counted, do not fit the memory of "
                f"{language_model.model.device}: lower batch_tokens below {len(rows) * longest}"
            ) from error
        yield number, completions


def _write(
    language_model: LanguageModel, rows: Sequence[list[int]], sampling: Sampling, lists: LabelLists | None = None
) -> list[Completion]:
    """One batch's completions, in the order of its rows of prompt tokens."""
    model: Any = language_model.model
    tokenizer: Any = language_model.tokenizer
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if sampling.temperature else {}
    prompts = [torch.tensor(row) for row in rows]
    ids = pad_sequence(prompts, batch_first=True, padding_value=tokenizer.pad_token_id, padding_side="left")
    mask = pad_sequence([torch.ones_like(row) for row in prompts], batch_first=True, padding_side="left")
    ids, mask, n_prompt = ids.to(model.device), mask.to(model.device), ids.shape[1]
    cache = DynamicCache(config=model.config) if model._supports_default_dynamic_cache() else None
    only = [OnlyLabels(lists)] if lists else []
    texts: list[list[int]] = [[] for _ in rows]
    logprobs: list[list[float]] = [[] for _ in rows]
    finished, going = set(), list(range(len(rows)))
    while going and (left := sampling.max_tokens + n_prompt - ids.shape[1]):
        config = GenerationConfig(
            max_new_tokens=min(left, PIECE) if cache is not None else left,
            do_sample=bool(drawn),
            eos_token_id=sorted(ends) or None,
            pad_token_id=tokenizer.pad_token_id,
            **drawn,
        )
        certainty, stops = _Certainty(), _Stops(tokenizer, sampling.stop, n_prompt)
        written = _by_these_settings(
            model,
            config,
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            logits_processor=[certainty, *only],
            stopping_criteria=[stops] if sampling.stop else None,
        )
        new = written[:, ids.shape[1] :]
        kept = []
        for place, (row, tokens, certain) in enumerate(
            zip(going, new.tolist(), certainty.of(new).tolist(), strict=True)
        ):
            ended = next((at for at, token in enumerate(tokens) if token in ends), None)
            texts[row] += tokens[:ended]
            logprobs[row] += certain[:ended]
            if ended is not None:
                finished.add(row)
            elif place not in stops.ended:
                kept.append(place)
        rest = torch.tensor(kept, dtype=torch.int64, device=ids.device)
        mask = torch.cat([mask, torch.ones_like(new)], 1)[rest]
        ids, going = written[rest], [going[place] for place in kept]
        if cache is not None:
            cache.batch_select_indices(rest)
        for processor in only:
            processor.keep(kept)
    completions = []
    for row, tokens in enumerate(texts):
        text, offsets = _spell(tokenizer, rows[row], tokens)
        whole = Completion(text, row in finished, len(tokens), offsets, tuple(logprobs[row]), tuple(tokens))
        completions.append(_cut(whole, sampling.stop))
    return completions


def _by_these_settings(model: Any, config: GenerationConfig, **given: Any) -> Int[Tensor, "b n"]:
    """`model.generate` by the settings given alone: the library takes from the model's own what a call leaves open."""
    own = model.generation_config
    model.generation_config = config
    try:
        return model.generate(generation_config=config, **given)
    finally:
        model.generation_config = own


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

    def of(self, written: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
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
            begun = draft != final[:end] and end < len(final)
            offsets.append((len(text) + start, len(text) + end + begun))
        text += final
        before = pending if final else before + pending
        read, pending, drafts = _decode(tokenizer, before), [], []
    return text, tuple(offsets)


def _cut(completion: Completion, stop: Sequence[str]) -> Completion:
    """The completion as far as the first stop string in it."""
    found = [at for at in map(completion.text.find, stop) if at >= 0]
    if not found:
        return completion
    text = completion.text[: min(found)]
    kept = [place for place, (start, _) in enumerate(completion.offsets) if start < len(text)]
    offsets = tuple((start, min(end, len(text))) for start, end in (completion.offsets[place] for place in kept))
    logprobs = tuple(completion.logprobs[place] for place in kept)
    return Completion(text, True, len(kept), offsets, logprobs, tuple(completion.ids[place] for place in kept))


def _ask_all(
    server: Server, prompts: Sequence[str], missing: Sequence[int], sampling: Sampling
) -> Iterator[tuple[int, list[Completion]]]:
    pool = ThreadPoolExecutor(server.concurrent)
    try:
        asked = {pool.submit(server.complete, prompts[row], sampling, sampling.batch_seed(row)): row for row in missing}
        failure = None
        for answer in as_completed(asked):
            if answer.cancelled():
                continue
            if (error := answer.exception()) is None:
                yield asked[answer], [answer.result()]
            else:  # what is being asked is waited for and kept
                failure = failure or error
                for other in asked:
                    other.cancel()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
