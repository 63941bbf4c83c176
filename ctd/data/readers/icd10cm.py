"""The ICD-10-CM tabular list (April 2026) as a label space: its tree, inclusion terms and exclusion notes.

Notes: a label is a code that may be assigned (a leaf); chapters, blocks, categories and subcategories are inner
nodes. Labels stand in the order of the list, so whatever lies below a node is one run of label numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_matrix, csr_matrix

from ctd.cache import packaged_file
from ctd.data.label_space import LabelSpace

WIDEST = 50
"""A reference to more codes than this is left out: it names a field ("injury of ankle and foot"), no near miss."""

CODE = r"(?<![A-Z0-9])(?:[A-Z]\d[\dA-Z]|QA\d)(?:\.[\dA-Z]+)?(?![A-Z0-9])"
RANGE_OR_CODE = re.compile(rf"({CODE})\.?-?\s?-\s?({CODE})|({CODE})")

# What can follow "with" in a note's parentheses, and the pattern of the codes that it means, written without a dot.
CONDITIONS = (
    (r"(?:fifth|5th)[ -]character \.?(\w)", r".{4}\1"),
    (r"(?:seventh|7th) character (\w)(?: or (\w))?", r".{6}[\1\2]"),
    (r"final characters -(\d+)", r".*\1$"),
)
SUFFIXES = r"(?:final characters )?(?:\.\d+(?:-|,|\.| or| )*)+"


@dataclass(frozen=True)
class Entry:
    """One line of the tabular list.

    id: of its node.
    text: its description.
    parent: its parent's place in the list, -1 for a chapter.
    depth: 0 for a chapter, 1 for a block.
    is_label: whether the code may be assigned.
    labels: the label numbers at or below it.
    excludes: its Excludes1 and Excludes2 notes.
    instructions: its code-first, code-also and use-additional-code lines.
    inclusion_terms: conditions that the list files under it.
    """

    id: str
    text: str
    parent: int
    depth: int
    is_label: bool
    labels: range
    excludes: dict[int, list[str]]
    instructions: list[str]
    inclusion_terms: list[str]


@cache
def _tabular() -> list[Entry]:
    """The list in its own order, each entry before those below it, without umbrella blocks that have no entries."""
    packaged_file("icd10cm_tabular")
    import simple_icd_10_cm as tabular

    entries: list[Entry] = []
    n_labels = 0

    def visit(code: str, parent: int, depth: int) -> None:
        nonlocal n_labels
        block = depth == 1
        children = tabular.get_children(code, prioritize_blocks=block)
        if block and not children:
            return
        place, first_label = len(entries), n_labels
        entries.append(_entry(code, parent, depth))
        n_labels += not children
        for child in children:
            visit(child, place, depth + 1)
        entries[place] = replace(entries[place], is_label=not children, labels=range(first_label, n_labels))

    for code in tabular.get_all_codes():
        if tabular.is_chapter(code):
            visit(code, -1, 0)
    return entries


def _entry(code: str, parent: int, depth: int) -> Entry:
    """The entry of a code, as if nothing were below it and it were no label."""
    import simple_icd_10_cm as tabular

    block = depth == 1
    instructions = (
        note(code, prioritize_blocks=block)
        for note in (tabular.get_code_first, tabular.get_code_also, tabular.get_use_additional_code)
    )
    return Entry(
        id=_node_id(code, depth),
        text=_text(code, tabular.get_description(code, prioritize_blocks=block), depth),
        parent=parent,
        depth=depth,
        is_label=False,
        labels=range(0),
        excludes={
            1: tabular.get_excludes1(code, prioritize_blocks=block),
            2: tabular.get_excludes2(code, prioritize_blocks=block),
        },
        instructions=[line for text in instructions for line in text.splitlines()],
        inclusion_terms=tabular.get_inclusion_term(code, prioritize_blocks=block),
    )


def _node_id(code: str, depth: int) -> str:
    """Codes as they are; `chapter-9`; a block by its ends, so that block B99-B99 and category B99 differ."""
    if depth == 0:
        return f"chapter-{code}"
    return f"{code}-{code}" if depth == 1 and "-" not in code else code


def _text(code: str, description: str, depth: int) -> str:
    """The description, without a block's range of codes and without the gloss after a seventh character's meaning."""
    if depth < 2:
        return re.sub(rf" \({CODE}(?:-{CODE})?\)$", "", description)
    return re.sub(r"(, [^,/]+)/\t?.*", r"\1", description) if len(code) == 8 else description


@cache
def label_space() -> LabelSpace:
    """The 74,719 codes that may be assigned, with their tree and exclusion notes.

    Ids are dotted codes ("I50.21"), texts the full descriptions, the seventh character spelled out. Exclusions come
    from the notes of a code and of every node above it except the chapter (a chapter's notes name whole chapters).
    Where notes of both kinds name a code, Excludes1 counts.
    """
    entries = _tabular()
    order = sorted(entries, key=lambda entry: not entry.is_label)
    node = {entry.id: row for row, entry in enumerate(order)}
    parents = [node[entries[entry.parent].id] if entry.parent >= 0 else -1 for entry in order]
    return LabelSpace(
        name="icd10cm",
        ids=[entry.id for entry in order],
        texts=[entry.text for entry in order],
        n_labels=sum(entry.is_label for entry in entries),
        parents=np.array(parents, np.int32),
        exclusions=_exclusions()[0],
    )


def inclusion_terms() -> dict[str, list[str]]:
    """The conditions that the list files under each node ("Cardiac asthma" under I50.1), by node id."""
    return {entry.id: list(entry.inclusion_terms) for entry in _tabular() if entry.inclusion_terms}


@cache
def heart_failure_set() -> LabelSpace:
    """The closed set: the codes of I50 and those that a note ties to I50 (rule: ours; 51 labels).

    A note at I50 or below ties the codes that it names; a note elsewhere that names a code of I50 ties its own codes.
    Notes are Excludes1, Excludes2, code first, code also and use additional code. References to more than `WIDEST`
    codes (O00-O07) do not count. The tree above the labels is kept.
    """
    entries, space = _tabular(), label_space()
    heart = set(next(entry.labels for entry in entries if entry.id == "I50"))
    chosen = set(heart)
    for entry in entries:
        notes = [*entry.excludes[1], *entry.excludes[2], *entry.instructions] if entry.depth else []
        labels = {int(label) for note in notes for label in _named(note, Counter())}
        if heart.issuperset(entry.labels):
            chosen |= labels
        elif heart & labels:
            chosen |= set(entry.labels)
    return space.subset(chosen, "icd10cm-heart-failure")


@cache
def _exclusions() -> tuple[csr_matrix, Counter[str]]:
    """The exclusions [labels, labels], and the counts."""
    entries = _tabular()
    counts: Counter[str] = Counter()
    n_labels = entries[-1].labels.stop
    named_by: dict[int, csr_matrix] = {}
    for kind in (1, 2):
        pairs = [np.empty((2, 0), np.int32)]
        for entry in entries:
            for note in entry.excludes[kind]:
                counts["notes"] += 1
                if entry.depth == 0:
                    counts["notes of a chapter, not read"] += 1
                    continue
                excluded = _named(note, counts)
                rows = np.repeat(np.arange(entry.labels.start, entry.labels.stop, dtype=np.int32), len(excluded))
                pairs.append(np.stack([rows, np.tile(excluded, len(entry.labels))]))
        rows, columns = np.concatenate(pairs, axis=1)
        other = rows != columns
        matrix = coo_matrix((np.ones(other.sum(), np.int32), (rows[other], columns[other])), shape=(n_labels, n_labels))
        named_by[kind] = matrix.tocsr().sign()
    exclusions = (2 * (named_by[1] + named_by[2]).sign() - named_by[1]).tocsr()
    exclusions.sort_indices()
    counts["Excludes1 pairs of codes"] = int((exclusions.data == 1).sum())
    counts["Excludes2 pairs of codes"] = int((exclusions.data == 2).sum())
    return exclusions, counts


@cache
def _spans() -> tuple[dict[str, range], list[str]]:
    """The labels at or below each category, subcategory and code, and every label's code without its dot."""
    entries = _tabular()
    spans = {entry.id: entry.labels for entry in entries if entry.depth > 1}
    return spans, [entry.id.replace(".", "") for entry in entries if entry.is_label]


def _named(note: str, counts: Counter[str]) -> Int[np.ndarray, " labels"]:
    """The labels that a note's parentheses name: codes, `I46.-`, ranges, lists, and `with` conditions."""
    spans, codes = _spans()
    parts: list[np.ndarray] = [np.empty(0, np.int32)]
    groups = [group for group in re.findall(r"\(([^()]*)\)", note) if re.search(CODE, group)]
    counts["notes without a code in parentheses"] += not groups
    for group in groups:
        codes_named, _, condition = (part.strip(" ,") for part in re.sub(r"\bwith\b", "|", group).partition("|"))
        pattern = _pattern(condition)
        for first, last, single in RANGE_OR_CODE.findall(codes_named):
            low, high = spans.get(first or single), spans.get(last or single)
            if low is None or high is None:
                counts["references to a code that the list does not have"] += 1
            elif pattern is None:
                counts["references with a condition not understood"] += 1
            else:
                labels = [row for row in range(low.start, high.stop) if pattern.match(codes[row])]
                counts["references" if len(labels) <= WIDEST else f"references to more than {WIDEST} codes"] += 1
                parts.append(np.array(labels if len(labels) <= WIDEST else [], np.int32))
    return np.unique(np.concatenate(parts))


def _pattern(condition: str) -> re.Pattern[str] | None:
    """The pattern of the codes that a condition means; None where it is not understood."""
    for words, pattern in CONDITIONS:
        if match := re.fullmatch(words, condition):
            return re.compile(match.expand(pattern))
    if re.fullmatch(SUFFIXES, condition):
        suffixes = "|".join(re.findall(r"\.(\d+)", condition))
        return re.compile(f".{{3}}(?:{suffixes})")
    return None if condition else re.compile("")
