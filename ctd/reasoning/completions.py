"""What was written after prompts, and where it is kept: in the user's cache, and some of it beside the book.

Notes: a call's completions lie under a digest of all that they depend on. Those of the book's default profile come
with it (`data/texts`, xz), because writing them takes long: they are read where the digest is the same but for the
precision that a processor computes in, and anything else is written anew. So are the lists that some of them were
written after (`data/lists`, see `ctd.reasoning.candidate_lists`). The environment variable CTD_TEXTS says otherwise:
"ignore" makes both anew, "keep" (`make texts`) puts there what a run wrote, or had in the cache.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from pydantic import TypeAdapter

from ctd.cache import DATA, atomic, cache_dir, keep_in_cache, written_or_told
from ctd.hardware import describe

USES = ("read", "ignore", "keep")


@dataclass(frozen=True)
class Completion:
    """What was written after a prompt, without special tokens, end token or stop string.

    text: what was written.
    finished: it ended by itself, with an end token or a stop string.
    n_tokens: tokens of the text, without the end token; as the server counts them (0 where it does not) where it gives
        no log-probabilities.
    offsets: the characters start .. end - 1 of the text that each token wrote a part of; a character of several tokens
        is each one's, a special token in mid-text has none.
    logprobs: of each token, given all before it (nats), by the model's own distribution (temperature 1, nothing cut
        off). Like the offsets, empty where a server does not give them.
    ids: the token ids; empty for a server's text, and for one that was kept without them.
    """

    text: str
    finished: bool
    n_tokens: int
    offsets: tuple[tuple[int, int], ...] = ()
    logprobs: tuple[float, ...] = ()
    ids: tuple[int, ...] = ()

    def logprob(self, start: int, end: int) -> float:
        """Summed log-probability (nats) of the tokens that touch the characters start .. end - 1.

        Raises ValueError for characters outside the text, or where the server gave no log-probabilities.
        """
        if not 0 <= start <= end <= len(self.text):
            raise ValueError(f"characters must lie within the {len(self.text)} of the text, got {start}..{end}")
        if self.text and not self.logprobs:
            raise ValueError("this text has no log-probabilities: the server that wrote it gives none")
        touching = (p for (a, b), p in zip(self.offsets, self.logprobs, strict=True) if max(a, start) < min(b, end))
        return sum(touching, 0.0)


@dataclass(frozen=True)
class _Batch:
    """A line of a file of batches."""

    batch: int
    completions: tuple[Completion, ...]


_LINE = TypeAdapter(_Batch)


class BatchStore:
    """Finished batches on disk: appended and synced line by line; a whole file has the name without `.partial`.

    A line that cannot be read, such as one that was torn by a kill, is a batch that was not done.

    key: of the file.
    batches: the prompts of each batch, by number.
    in_book: the key under which the book has them, "" for the same one.
    missing: the batches to write.
    Raises ValueError for a damaged file of the book, or what `use` refuses.
    """

    def __init__(self, key: str, batches: list[list[int]], in_book: str = "") -> None:
        self.whole = cache_dir("generations") / f"{key}.jsonl"
        self.partial = self.whole.with_suffix(".jsonl.partial")
        for file in (self.whole, self.partial):
            keep_in_cache(file)
        self.batches = batches
        self.done: dict[int, tuple[Completion, ...]] = {}
        self.use = use()
        self.in_book = DATA / "texts" / f"{(in_book or key)[:32]}.jsonl.xz"
        for file in (self.partial, self.whole):
            for line in file.read_bytes().splitlines() if file.exists() else []:
                self._read(line)
        if self.use == "read" and not self.done and self.in_book.is_file():
            for line in _unpacked(self.in_book).splitlines():
                self._read(line)
        self.missing = [number for number in range(len(batches)) if number not in self.done]

    def _read(self, line: bytes) -> None:
        try:
            read = _LINE.validate_json(line)
        except ValueError:
            return
        if read.batch in range(len(self.batches)) and len(read.completions) == len(self.batches[read.batch]):
            self.done[read.batch] = read.completions

    def add(self, number: int, completions: Sequence[Completion]) -> None:
        """Keep a finished batch."""
        self.done[number] = tuple(completions)
        with written_or_told(self.whole), open(self.partial, "ab") as file:
            file.write(b"\n" + self._line(number))  # ends a torn line before it
            file.flush()
            os.fsync(file.fileno())

    def close(self, desc: str, precision: str = "") -> None:
        """All batches are there: keep them as one file, and beside the book where that is wanted.

        desc: what was written, for the book's list of texts.
        precision: the dtype that it was written in, for the same list.
        """
        whole = b"\n".join(map(self._line, range(len(self.batches)))) + b"\n"
        if self.partial.exists():
            with atomic(self.whole) as scratch:
                scratch.write_bytes(whole)
            self.partial.unlink(missing_ok=True)
        if self.use == "keep":
            with atomic(self.in_book) as scratch:
                scratch.write_bytes(lzma.compress(whole, preset=9))
            self._declare(desc, precision)

    def _declare(self, desc: str, precision: str) -> None:
        """Say in the book's list of texts what this file is."""
        path = self.in_book.with_name("manifest.json")
        declared = json.loads(path.read_text("utf-8")) if path.exists() else {}
        declared[self.in_book.name] = {
            "what": desc,
            "documents": sum(map(len, self.batches)),
            "tokens": sum(completion.n_tokens for batch in self.done.values() for completion in batch),
            "hardware": describe(),
            "precision": precision,
            "torch": torch.__version__.partition("+")[0],
        }
        with atomic(path) as scratch:
            scratch.write_text(json.dumps(dict(sorted(declared.items())), indent=1) + "\n")

    def completions(self) -> list[Completion]:
        """All of them, in the order of the prompts."""
        completions = chain(*(self.done[number] for number in range(len(self.batches))))
        by_row = dict(zip(chain(*self.batches), completions, strict=True))
        return [by_row[row] for row in sorted(by_row)]

    def _line(self, number: int) -> bytes:
        return _LINE.dump_json(_Batch(number, self.done[number]))


def use() -> str:
    """What CTD_TEXTS says is to be done with the book's texts and lists, one of `USES`.

    Raises ValueError for another value.
    """
    way = os.environ.get("CTD_TEXTS") or "read"
    if way not in USES:
        raise ValueError(f"CTD_TEXTS must be one of {', '.join(USES)}, got {way!r}")
    return way


def _unpacked(path: Path) -> bytes:
    try:
        return lzma.decompress(path.read_bytes())
    except (lzma.LZMAError, EOFError):
        raise ValueError(
            f"data/texts/{path.name} is damaged: restore it (git checkout data/texts), or write its texts anew "
            "(CTD_TEXTS=ignore)"
        ) from None
