"""Vignettes of the model organism whose comparisons take two steps, so that Phase 2 has something to teach.

Notes: in the organism's own vignettes the sentence that names a code also says whether it holds, so that one look
decides a comparison. Here that sentence gives the code a letter, and the last sentence of the document says which
letters were confirmed: a comparison has to find the letter of the code and then the verdict on the letter. Everything
else stays: the codes, their wording, the topics, and the format of the trace. Our definition.
"""

from __future__ import annotations

from dataclasses import replace
from string import ascii_lowercase

import numpy as np

from ctd.data.readers import organism, wording
from ctd.data.readers.organism import Case
from ctd.data.task import Card, Task

CONSIDERED = (
    "Under consideration as item {letter}: {finding}.",
    "Item {letter} of the assessment was {finding}.",
    "The team noted {finding} as item {letter}.",
)
CONFIRMED, EXCLUDED = "item {letter} was confirmed", "item {letter} was excluded"


def load(n_documents: int = 2000, seed: int = 0, n_topics: int = 3) -> Task:
    """The organism's task with hard comparisons; a document has the number and the gold labels of the organism's.

    n_documents, seed, n_topics: as in `organism.generate`, which says what is raised.
    """
    card = Card(
        title="Vignettes of the model organism, with comparisons of two steps",
        licence=organism.LICENCE,
        source=organism.SOURCE,
        made=f"Generated, seed {seed}: the model organism's vignettes, in which the sentence that names a finding or "
        "its near miss gives it a letter, and the last sentence says which letters were confirmed and which excluded. "
        "Split by a hash of the document's number.",
        generated=True,
    )
    return organism.task(map(apart, organism.generate(n_documents, seed, n_topics)), card)


def apart(case: Case) -> Case:
    """The case with its verdicts in the last sentence of the document, apart from the codes that they are about.

    case: a vignette of `organism.generate`; letters and wording are drawn by its name.
    """
    rng = np.random.default_rng((1, *case.uid.encode()))
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
    verdicts = {
        code: (CONFIRMED if code in case.labels else EXCLUDED).format(letter=letter)
        for code, letter in sorted(letters.items(), key=lambda item: item[1])
    }
    text += f"{case.text[done:]} In the end {', '.join(verdicts.values())}."
    return replace(case, text=text, named=named, deciding={label: verdicts[label] for label in case.labels})


def _sentence(case: Case, start: int, end: int) -> tuple[int, int]:
    """The characters of the sentence that names a code at start .. end - 1 and says whether it holds."""
    for template in (*wording.FINDINGS, *wording.RULED_OUT):
        before, after = template.split("{finding}")
        if case.text[:start].endswith(before) and case.text[end:].startswith(after):
            return start - len(before), end + len(after)
    raise ValueError(f"case {case.uid} has no verdict beside {case.text[start:end]!r}: it must come from generate")
