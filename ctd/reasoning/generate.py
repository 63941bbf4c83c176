"""Text that a reasoning model writes after its prompts: in batches, each token with its log-probability, resumable.

Notes: finished batches are kept (see `ctd.reasoning.completions`) under a digest of the model's key, the prompts and
the settings. A call that was killed goes on with the batches it lacks, composed as before: what a model writes depends
a little on what stands beside it (padding changes the order of sums), so only then is the result that of an unbroken
run. On a processor batches, or halves of them, are written by processes of one thread (see `ctd.workers`), and by the
same steps where there is one process alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from ctd import hardware, workers
from ctd.cache import digest
from ctd.reasoning import architecture, costs, write_batch
from ctd.reasoning.completions import BatchStore, Completion
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling

if TYPE_CHECKING:
    from ctd.reasoning.serve import Server

FORMAT = "generate 2"  # of the kept files: another one begins anew
ROWS, WIDE = 64, 512  # prompts of one batch at most, and of a wider one
HALVED = 2  # batches of a call, the last ones, that are written in halves
LONG = 2e11  # parameters times tokens of a batch for which that pays: some seconds of one thread
OWN_ATTENTION = ("sdpa", "eager")  # the library's, which another process has too


@dataclass(frozen=True)
class Limits:
    """How long prompts may be, and how many are written side by side.

    batch_tokens: of a batch at most, so that memory is bounded: prompts are padded, and max_tokens counts for each. One
        prompt alone may be longer. The longest prompts come first.
    wide_batch_tokens: as batch_tokens, for more prompts at once. Used where nothing is kept of the narrower batches and
        memory allows; 0 for never.
    max_prompt_tokens: a bound below the one that the model's context sets; None for no other bound. Not for a server.
    Raises ValueError for a bound below 1.
    """

    batch_tokens: int = 16_384
    wide_batch_tokens: int = 0
    max_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, bound in (("batch_tokens", self.batch_tokens), ("max_prompt_tokens", self.max_prompt_tokens)):
            if bound is not None and bound < 1:
                raise ValueError(f"{name} must be at least 1, got {bound}")


def generate(
    model: LanguageModel | Server,
    prompts: Sequence[str],
    sampling: Sampling = Sampling(),
    limits: Limits = Limits(),
    lists: LabelLists | None = None,
    desc: str = "generating",
) -> list[Completion]:
    """What the model writes after each prompt, in the order given; what was written before is read from the cache.

    model: its `key` must stand for its weights. A model that was changed in memory (trained, or with hooks that change
        what it computes) needs another key.
    prompts: taken as they stand; no special tokens are added.
    sampling: how to write.
    limits: of prompts and batches.
    lists: the only labels that items of lists may be, none twice in a list; log-probabilities stay the model's own.
        None for a server.
    desc: what the progress bar and the book's list of texts say.
    Raises ValueError for an empty prompt, a prompt too long for the model, or logits that are no numbers; MemoryError
    when a batch does not fit the accelerator.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts must be a list of strings, got the string {prompts[:40]!r}")
    if not prompts:
        return []
    if isinstance(model, LanguageModel):
        return _by_model(model, prompts, sampling, limits, lists, desc)
    if lists is not None:
        raise ValueError("lists= is for models loaded here, a server is not kept to it: leave it out")
    if limits.max_prompt_tokens is not None:
        raise ValueError("max_prompt_tokens is for models loaded here, a server counts its own tokens: leave it out")
    return _by_server(model, prompts, sampling, desc)


def _by_model(
    language_model: LanguageModel,
    prompts: Sequence[str],
    sampling: Sampling,
    limits: Limits,
    lists: LabelLists | None,
    desc: str,
) -> list[Completion]:
    ids = _tokens(language_model, prompts, sampling.max_tokens, limits.max_prompt_tokens)
    lengths, settings = [len(row) for row in ids], [sampling.decisive, *prompts]
    precision = str(language_model.model.dtype).removeprefix("torch.")
    narrow = _store(language_model, settings, batches(lengths, sampling.max_tokens, limits.batch_tokens), lists)
    if limits.wide_batch_tokens and not narrow.done:
        together = batches(lengths, sampling.max_tokens, limits.wide_batch_tokens, WIDE)
        wide = _store(language_model, settings, together, lists)
        with suppress(MemoryError):  # where another program takes that memory, narrow ones may still fit
            return _completed(
                wide, _write_all(language_model, ids, wide, sampling, lists), desc, precision, language_model
            )
    writing = _write_all(language_model, ids, narrow, sampling, lists)
    return _completed(narrow, writing, desc, precision, language_model)


def _by_server(server: Server, prompts: Sequence[str], sampling: Sampling, desc: str) -> list[Completion]:
    if "" in prompts:
        raise ValueError(_empty([*prompts].index("")))
    key = digest([FORMAT, server.key, sampling.decisive, *prompts])
    store = BatchStore(key, [[row] for row in range(len(prompts))])
    return _completed(store, _ask_all(server, prompts, store.missing, sampling), desc, "")


def _completed(
    store: BatchStore,
    writing: Iterator[tuple[int, list[Completion]]],
    desc: str,
    precision: str,
    language_model: LanguageModel | None = None,
) -> list[Completion]:
    """What is kept, and what is still to be written: each batch is kept as it comes. What a model took is recorded."""
    if store.missing:
        n_written, began = 0, time.perf_counter()
        n_prompts, n_missing = sum(map(len, store.batches)), sum(len(store.batches[number]) for number in store.missing)
        with tqdm(total=n_prompts, initial=n_prompts - n_missing, desc=desc, unit=" documents") as bar:
            for number, completions in writing:
                store.add(number, completions)
                n_written += sum(completion.n_tokens for completion in completions)
                bar.set_postfix(tokens_a_second=f"{n_written / (time.perf_counter() - began):.0f}", refresh=False)
                bar.update(len(completions))
        if language_model is not None:
            costs.record(language_model, n_missing, n_written, time.perf_counter() - began)
    store.close(desc, precision)
    return store.completions()


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


def _store(
    language_model: LanguageModel, settings: Sequence[str], together: list[list[int]], lists: LabelLists | None
) -> BatchStore:
    """What is kept of these batches, in the cache or with the book."""
    decisive = [*settings, repr(together), lists.key if lists else ""]
    key, book_key = (
        digest([FORMAT, key, *decisive]) if key else "" for key in (language_model.key, language_model.book_key)
    )
    return BatchStore(key, together, book_key)


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
    store: BatchStore,
    sampling: Sampling,
    lists: LabelLists | None,
) -> Iterator[tuple[int, list[Completion]]]:
    """Each missing batch with its number, written in parts side by side on a processor."""
    parts = [part for number in store.missing for part in _parts(language_model, number, ids, store, sampling)]
    side_by_side = 0 if _may_be_shared(language_model.model) else 1
    seconds = hardware.seconds_to_read(language_model.model, _n_tokens(parts[0].prompts, sampling)) if parts else None
    shared = (language_model, lists, sampling)
    written = workers.run(_write_part, parts, shared, workers=side_by_side, seconds=seconds)
    completions: dict[int, Completion] = {}
    for part, texts in zip(parts, written, strict=True):
        completions.update(zip(part.rows, texts, strict=True))
        rows = store.batches[part.batch]
        if all(row in completions for row in rows):
            yield part.batch, [completions.pop(row) for row in rows]


@dataclass(frozen=True)
class _Part:
    """Prompts that are written together: a batch, or every other prompt of it."""

    batch: int
    rows: list[int]
    prompts: list[list[int]]


def _parts(
    language_model: LanguageModel, number: int, ids: Sequence[list[int]], store: BatchStore, sampling: Sampling
) -> list[_Part]:
    """A batch, or its two halves: the same parts whatever the number of processes.

    Few rows are written more slowly, so only the last `HALVED` batches are halved, so that no process is idle for long,
    and these only where they take long. Where tokens are drawn, the whole batch decides them, and an accelerator writes
    wide batches faster.
    """
    rows = store.batches[number]
    work = language_model.model.num_parameters() * _n_tokens([ids[row] for row in rows], sampling)
    early = number < len(store.batches) - HALVED
    whole = early or work < LONG or sampling.temperature or hardware.on_accelerator(language_model.model)
    parts = [rows] if whole else [rows[::2], rows[1::2]]
    return [_Part(number, part, [ids[row] for row in part]) for part in parts if part]


def _n_tokens(prompts: Sequence[list[int]], sampling: Sampling) -> int:
    """About how many tokens are read and written: most texts end before max_tokens."""
    return sum(map(len, prompts)) + len(prompts) * sampling.max_tokens // 2


def _may_be_shared(model: Any) -> bool:
    """Whether another process would compute the same: on a processor, and without hooks, which stay in this process."""
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return model.device.type == "cpu" and not hooked and model.config._attn_implementation in OWN_ATTENTION


def _write_part(shared: tuple[LanguageModel, LabelLists | None, Sampling], part: _Part) -> list[Completion]:
    language_model, lists, sampling = shared
    try:
        # What is drawn depends on seed and batch alone, and the caller's own draws not on what is drawn here.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(sampling.batch_seed(part.batch))
            return write_batch.write(language_model, part.prompts, sampling, lists)
    except torch.OutOfMemoryError as error:
        n, longest = len(part.rows), max(map(len, part.prompts)) + sampling.max_tokens
        raise MemoryError(
            f"{n} prompts of up to {longest} tokens, max_tokens counted, do not fit the memory of "
            f"{language_model.model.device}: lower batch_tokens below {n * longest}"
        ) from error


def _ask_all(
    server: Server, prompts: Sequence[str], missing: Sequence[int], sampling: Sampling
) -> Iterator[tuple[int, list[Completion]]]:
    pool = ThreadPoolExecutor(server.concurrent)
    try:
        rows = {pool.submit(server.complete, prompts[row], sampling, sampling.batch_seed(row)): row for row in missing}
        failure = None
        for answer in as_completed(rows):
            if answer.cancelled():
                continue
            if (error := answer.exception()) is None:
                yield rows[answer], [answer.result()]
            else:  # prompts that the server has already got are waited for and kept
                failure = failure or error
                for other in rows:
                    other.cancel()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
