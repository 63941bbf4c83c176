"""Vignettes of the model organism whose comparisons take two steps, so that Phase 2 has something to teach.

Notes: in the organism's own vignettes the sentence that names a code also says whether it holds, so that one look
decides a comparison. Here that sentence gives the code a letter, and the last sentence of the document says which
letters were confirmed: a comparison has to find the letter of the code and then the verdict on the letter. Everything
else stays: the codes, their wording, the topics, and the format of the trace. Our definition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from string import ascii_lowercase

import numpy as np
from transformers import PreTrainedTokenizerFast

from ctd.data.label_space import LabelSpace
from ctd.data.readers import organism as vignettes
from ctd.data.readers import wording
from ctd.data.readers.organism import Case
from ctd.reasoning import prompts, traces
from ctd.reasoning.traces import Trace
from ctd.recipes import organism_texts
from ctd.recipes.organism_recipe import Recipe
from ctd.recipes.organism_texts import Lesson, lesson, unseen

CONSIDERED = (
    "Under consideration as item {letter}: {finding}.",
    "Item {letter} of the assessment was {finding}.",
    "The team noted {finding} as item {letter}.",
)
CONFIRMED, EXCLUDED = "item {letter} was confirmed", "item {letter} was excluded"


def apart(case: Case, seed: int = 0) -> Case:
    """The case with its verdicts in the last sentence of the document, apart from the codes that they are about.

    case: a vignette of `vignettes.generate`.
    seed: draws letters and wording.
    """
    rng = np.random.default_rng((seed, 1, *case.uid.encode()))
    considered = [code for code in case.named if code in (*case.labels, *case.denied)]
    letters = dict(zip(considered, (ascii_lowercase[place] for place in rng.permutation(len(considered))), strict=True))
    text, named, done = "", {}, 0
    for code, (start, end) in case.named.items():
        first, last = _sentence(case, start, end) if code in letters else (start, end)
        text += case.text[done:first]
        before, after = "", ""
        if code in letters:
            template = wording.pick(CONSIDERED, rng).replace("{letter}", letters[code])
            before, after = template.split("{finding}")
        name = case.text[start:end]
        named[code] = (len(text) + len(before), len(text) + len(before) + len(name))
        text, done = text + before + name + after, last
    verdicts = [verdict(letters, code, code in case.labels) for code in sorted(letters, key=lambda code: letters[code])]
    text += f"{case.text[done:]} In the end {', '.join(verdicts)}."
    return replace(case, text=text, named=named)


def verdict(letters: Mapping[int, str], code: int, holds: bool) -> str:
    """What the last sentence says of a code.

    letters: of the codes.
    """
    return (CONFIRMED if holds else EXCLUDED).format(letter=letters[code])


def _sentence(case: Case, start: int, end: int) -> tuple[int, int]:
    """The characters of the sentence that names a code at start .. end - 1 and says whether it holds."""
    for template in (*wording.FINDINGS, *wording.RULED_OUT):
        before, after = template.split("{finding}")
        if case.text[:start].endswith(before) and case.text[end:].startswith(after):
            return start - len(before), end + len(after)
    raise ValueError(f"case {case.uid} has no verdict beside {case.text[start:end]!r}: it must come from generate")


def deciding_words(case: Case) -> dict[int, str]:
    """What the last sentence of a case from `apart` says of each gold code, verbatim."""
    words = {}
    for label, (start, end) in zip(case.labels, case.findings, strict=True):
        sentence = case.text[case.text.rfind(". ", 0, start) + 1 : case.text.index(".", end)]
        letter = re.search(r"\b[Ii]tem ([a-z])\b", sentence)
        assert letter is not None
        words[label] = CONFIRMED.format(letter=letter[1])
    return words


def trace(case: Case, space: LabelSpace, seed: int, n_siblings: int = 3) -> Trace:
    """The constructed trace of a case from `apart`: as the organism's, but its comparisons quote the verdict.

    seed, n_siblings: as in `organism_texts.trace`.
    """
    return organism_texts.trace(case, space, seed, n_siblings, deciding_words(case))


def learned_from(recipe: Recipe) -> tuple[PreTrainedTokenizerFast, list[Lesson]]:
    """The tokenizer of an organism with hard comparisons, and what is to be learned from.

    recipe: as for the organism.
    """
    space = vignettes.label_space()
    drawn = [apart(case, recipe.seed) for case in unseen(recipe)]
    sample = [trace(case, space, recipe.seed, recipe.n_siblings) for case in drawn[: organism_texts.WORDED]]
    texts = (prompts.plain(written.document) + traces.format(written) for written in sample)
    words = organism_texts.tokenizer(space, texts)
    return words, [lesson(case, space, words, recipe, deciding_words(case)) for case in drawn]
