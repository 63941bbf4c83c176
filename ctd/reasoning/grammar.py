"""Lists that hold labels and nothing else: decoding along a prefix tree of the label space.

Notes: constrained decoding as in De Cao et al. (arXiv:2010.00904), with two rules more (our definition). No label
stands twice in a list: that is the trace format's. And a list ends at the median of the lengths that the model gives
it: as soon as the chance that it would have gone on so far falls below one half. A model that learned lists of many
lengths is at no single place surer to end than to go on, so that the likeliest token alone would never end them. A line
that begins as an item does can only become a label's line; all other lines are free. The tree is the sorted table of
all labels' tokens: what shares a prefix is a range of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from ctd.cache import atomic, cache_dir, digest, once
from ctd.data.damaged import named_if_damaged
from ctd.data.label_space import LabelSpace
from ctd.keys import Maker
from ctd.reasoning.traces import IN_LINE, escape

GRAMMARS = Maker("grammars", "ctd.reasoning.grammar", ("labels", "tokenizer"))
AT_ONCE = 50_000  # labels that are tokenised together
MEDIAN = 0.5
BEFORE = "Answer:\n"  # what a list follows
LONGEST = 96  # tokens of a label's line; a longer label cannot be written under this grammar


class LabelLists:
    """The label space as lines of tokens, for one tokenizer.

    bullet: the token with which an item begins.
    lines: what may follow it, sorted, a row a label: each token's id plus one, 0 behind the end; the last token of a
        line ends in a line break.
    breaks: the tokens that end a line.
    key: digest of labels and tokens, a part of the keys of the texts that come with the book.
    Raises ValueError for a tokenizer whose items do not begin with one and the same token.
    """

    def __init__(self, space: LabelSpace, tokenizer: PreTrainedTokenizerBase) -> None:
        texts = _lines(space)
        self.key = _key(texts, tokenizer)
        path = cache_dir("grammar") / f"{GRAMMARS.key(labels=texts, tokenizer=tokenizer_content(tokenizer))}.npy"
        with once(path) as missing:
            if missing:
                table = _table(texts, tokenizer)
                with atomic(path) as scratch, open(scratch, "wb") as file:
                    np.save(file, table)
        with named_if_damaged(path):
            table = np.load(path, mmap_mode="r" if len(texts) > AT_ONCE else None)
        if len(set(table[[0, -1], 0].tolist())) > 1:
            raise ValueError("this tokenizer begins list items with different tokens: lists cannot be kept to labels")
        self.bullet = int(table[0, 0]) - 1
        self.lines = table[:, 1:]
        self.breaks = frozenset(
            token for token in range(len(tokenizer)) if str(tokenizer.decode([token])).endswith("\n")
        )
        self.options = lru_cache(maxsize=100_000)(self._options)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: where a large table lies, instead of the table."""
        lines = self.lines.filename if isinstance(self.lines, np.memmap) else self.lines
        return {"key": self.key, "bullet": self.bullet, "lines": lines, "breaks": self.breaks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not isinstance(self.lines, np.ndarray):
            self.lines = np.load(self.lines, mmap_mode="r")[:, 1:]
        self.options = lru_cache(maxsize=100_000)(self._options)

    def _options(self, first: int, last: int, depth: int) -> tuple[Int[np.ndarray, " o"], Int[np.ndarray, " o+1"]]:
        """The tokens that may stand at `depth` in the rows first .. last - 1, and where each one's rows begin."""
        column = np.asarray(self.lines[first:last, depth])
        starts = np.flatnonzero(np.diff(column, prepend=-1))
        return column[starts].astype(np.int64) - 1, np.append(starts, last - first) + first


def tokenizer_content(tokenizer: Any) -> str:
    """All that decides which tokens a text becomes: vocabulary, merges and rules, as JSON."""
    if not tokenizer.is_fast:
        return json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()], sort_keys=True)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps({name: part for name, part in content.items() if name not in ("padding", "truncation")})


def _key(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> str:
    probe = "".join(f"- {text}\n" for text in texts[:50])
    return digest(["label lists 1", str(tokenizer(probe)["input_ids"]), str(len(tokenizer)), *texts])


def _lines(space: LabelSpace) -> list[str]:
    """The labels as a list names them, on one line each, each once."""
    return list(dict.fromkeys(escape(text, IN_LINE) for text in space.texts[: len(space)]))


class OnlyLabels(LogitsProcessor):
    """Keeps one batch to the grammar while it is written; the prompt must end at the beginning of a line."""

    def __init__(self, lists: LabelLists) -> None:
        self.lists = lists
        self.rows: list[_Line] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.rows:
            for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
                row.read(token)
        else:
            self.rows = [_Line(self.lists) for _ in range(len(input_ids))]
        if ending := [place for place, row in enumerate(self.rows) if row.begins and row.used]:
            likely = scores[ending].float().softmax(-1)[:, self.lists.bullet].tolist()
            for place, going_on in zip(ending, likely, strict=True):
                self.rows[place].going_on *= going_on
                if self.rows[place].going_on < MEDIAN:
                    scores[place, self.lists.bullet] = -torch.inf
        allowed = {place: tokens for place, row in enumerate(self.rows) if (tokens := row.allowed()) is not None}
        if allowed:  # of all rows at once: on an accelerator each operation waits for the one before
            places = np.repeat([*allowed], [len(tokens) for tokens in allowed.values()])
            cells = torch.from_numpy(np.stack([places, np.concatenate([*allowed.values()])])).to(scores.device).unbind()
            values = scores[cells]
            scores[[*allowed]] = -torch.inf
            scores[cells] = values
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, in this order."""
        self.rows = [self.rows[row] for row in rows]


class _Line:
    """Where one text stands: at the beginning of a line, in an item (a range of the table), or in a free line."""

    def __init__(self, lists: LabelLists) -> None:
        self.lists, self.begins = lists, True
        self.item: tuple[int, int, int] | None = None
        self.used: list[int] = []  # rows of the table that the present list holds
        self.going_on = 1.0  # the chance that the present list would be at least as long

    def read(self, token: int) -> None:
        if self.item is not None:
            tokens, starts = self.lists.options(*self.item)
            place = int(np.searchsorted(tokens, token))
            first, last, depth = int(starts[place]), int(starts[place + 1]), self.item[2] + 1
            self.item = (first, last, depth)
            if token in self.lists.breaks:
                self.used.append(first)
                self.item, self.begins = None, True
        elif self.begins and token == self.lists.bullet:
            self.item, self.begins = (0, len(self.lists.lines), 0), False
        else:
            if self.begins:
                self.used, self.going_on = [], 1.0
            self.begins = token in self.lists.breaks

    def allowed(self) -> Int[np.ndarray, " tokens"] | None:
        """Tokens that may come next; None for any."""
        if self.item is None:
            return None
        tokens, starts = self.lists.options(*self.item)
        if not self.used:
            return tokens
        here = np.array([row for row in self.used if starts[0] <= row < starts[-1]], np.int64)
        taken = np.bincount(np.searchsorted(starts, here, "right") - 1, minlength=len(tokens))
        untaken = np.diff(starts) - taken > 0
        return tokens[untaken] if untaken.any() else tokens


def _table(texts: list[str], tokenizer: Any) -> Int[np.ndarray, "lines tokens"]:
    """The tokens of all items, each plus one, as sorted rows."""
    rows = []
    for start in tqdm(range(0, len(texts), AT_ONCE), desc="reading labels as tokens", unit=" batches"):
        lines = [f"- {text}\n" for text in texts[start : start + AT_ONCE]]
        rows += [ids for ids in _tokens_of_lines(lines, tokenizer) if len(ids) <= LONGEST]
    lengths = np.array([len(row) for row in rows])
    entries = np.concatenate([np.array(row) + 1 for row in rows])
    kind = np.min_scalar_type(max(int(entries.max()), 256))  # of two bytes for most models, of four for large ones
    table = np.zeros((len(rows), lengths.max() + 1), kind.newbyteorder(">"))
    table[np.arange(table.shape[1]) < lengths[:, None]] = entries
    as_text = np.ascontiguousarray(table).view(f"S{kind.itemsize * table.shape[1]}").ravel()
    return table[np.argsort(as_text, kind="stable")].astype(kind)


def _tokens_of_lines(lines: list[str], tokenizer: Any) -> list[list[int]]:
    """The tokens of each line where it follows another line.

    Raises ValueError for a tokenizer that reads a line break as one with what follows it.
    """
    before = tokenizer(BEFORE, add_special_tokens=False)["input_ids"]
    rows = tokenizer([BEFORE + line for line in lines], add_special_tokens=False)["input_ids"]
    if any(row[: len(before)] != before for row in rows):
        raise ValueError("this tokenizer joins line breaks to what follows them: lists cannot be kept to labels")
    return [row[len(before) :] for row in rows]
