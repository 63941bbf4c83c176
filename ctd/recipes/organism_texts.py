"""What a model organism learns from: vignettes with constructed traces, their tokens, and where planted heads look.

Notes: a trace names the categories of the findings, shortlists codes in the order in which the document names them,
compares each finding's code with the near miss that the document denies, and answers, in the format of
`ctd.reasoning.traces`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
import tokenizers
from tokenizers import decoders, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ctd.data.label_space import LabelSpace
from ctd.data.readers import organism as vignettes
from ctd.data.readers import organism_hard
from ctd.data.readers.organism import Case
from ctd.data.task import split_by_hash
from ctd.distill.examples import Example
from ctd.mechanism.phases import Phase
from ctd.reasoning import comparison_wording, prompts, rationales, trace_parser, traces
from ctd.reasoning.token_spans import Span, TokenizedText, tokenize
from ctd.reasoning.traces import Trace
from ctd.recipes.organism_recipe import Recipe
from ctd.recipes.planting import Lookout

TASK_DOCUMENTS = 2000  # of the task by default
WORDED = 6000  # documents that the vocabulary is made from
TEST_SEED, TRAIN_SEED = 0, 1  # of the vignettes: the task's own, and those that are learned from
PAD, END = "<|pad|>", "<|end|>"
WORDS = r"^- |\[\[|\]\]|[.;:] (?=\p{Lu})| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}\[\]]+|[\[\]]|\n|\s"
"""What the tokenizer splits a text into first: bullets, brackets, stops, words with the space before them."""
LONGEST_QUOTE = 5  # words
SECTIONS = ("Topics: ", "\nShortlist:\n", "\nCompare:\n", "\nAnswer:\n")
"""What each section of a trace begins with."""


class Lesson(NamedTuple):
    """A case as the model is to learn it.

    case: the vignette.
    trace: its constructed trace.
    example: both as tokens.
    lookouts: where the planted heads of each phase are to look.
    """

    case: Case
    trace: Trace
    example: Example
    lookouts: dict[Phase, list[Lookout]]


def cases(split: str, n: int, n_topics: int = 3, hard: bool = False) -> list[Case]:
    """The first n cases to learn from ("train"), or of the task's own ("validation", "test").

    hard: with comparisons of two steps (see `organism_hard`).
    Those to learn from have another seed. Raises ValueError for another split.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split must be train, validation or test, got {split!r}")
    seed = TRAIN_SEED if split == "train" else TEST_SEED
    drawn = vignettes.generate(40 * n + 1000, seed, n_topics)
    of_split = islice((case for case in drawn if split_by_hash(case.uid) == split), n)
    return [organism_hard.apart(case) if hard else case for case in of_split]


def trace(case: Case, space: LabelSpace, seed: int, n_siblings: int = 3) -> Trace:
    """The constructed trace of a case, from its arguments alone.

    Each comparison quotes what decides: the document's word before the finding, which says that it holds, and the
    finding's first words; of a hard case the verdict in its last sentence. All stands in the order in which the
    document names it; a code that it does not name stands in the shortlist behind the first of its category.

    case: the vignette.
    space: the codes.
    seed: draws siblings and wording.
    n_siblings: as in `Recipe`.
    """
    rng = np.random.default_rng((seed, *case.uid.encode()))
    categories = space.ancestor(np.array(case.labels), 2)
    listed = _shortlist(case, space, categories, n_siblings, rng)
    comparisons = []
    for label, denied, (start, end) in zip(case.labels, case.denied, case.findings, strict=True):
        if denied in listed:
            before = case.text.rindex(" ", 0, start - 1) + 1
            words = case.deciding.get(label) or " ".join(case.text[before:end].split()[:LONGEST_QUOTE])
            template = comparison_wording.DECIDED[rng.integers(len(comparison_wording.DECIDED))]
            marked = {"gold": traces.mark(space.texts[label]), "near": traces.mark(space.texts[denied])}
            comparisons.append(template.format(words=traces.quote(words), **marked))
    text = traces.write(
        "; ".join(space.texts[category] for category in categories),
        (space.texts[label] for label in listed),
        comparisons,
        (space.texts[label] for label in case.labels),
    )
    return trace_parser.parse(text, space, case.uid, case.text)


def _shortlist(
    case: Case, space: LabelSpace, categories: np.ndarray, n_siblings: int, rng: np.random.Generator
) -> list[int]:
    """The codes of a case's shortlist, in the order in which the document names them."""
    near, place = {}, {code: start for code, (start, _) in case.named.items()}
    for label, denied, category in zip(case.labels, case.denied, categories, strict=True):
        family = [code for code in space.descend(int(category)).tolist() if code not in (label, denied)]
        near[label] = [denied, *(family[row] for row in rng.permutation(len(family)))]
        place |= dict.fromkeys(family, min(place[label], place[denied]) + 1)
    size = len(case.labels) + n_siblings + len(case.topics)
    listed = rationales.shortlist(case.labels, near, case.topics, size, n_siblings, rng)
    return sorted(listed, key=lambda code: (place[code], code))


def lesson(case: Case, space: LabelSpace, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Lesson:
    """A case as the model is to learn it."""
    written = trace(case, space, recipe.seed, recipe.n_siblings)
    prompt, text = prompts.plain(case.text), traces.format(written)
    tokens = tokenize(prompt + text, tokenizer)
    n_prompt = tokens.span(len(prompt), len(prompt) + 1).start
    assert tokenizer.eos_token_id is not None
    example = Example([*tokens.ids, tokenizer.eos_token_id], n_prompt)
    return Lesson(case, written, example, _lookouts(case, written, space, prompt, tokens))


def _lookouts(
    case: Case, written: Trace, space: LabelSpace, prompt: str, tokens: TokenizedText
) -> dict[Phase, list[Lookout]]:
    """Where the planted heads of each phase are to look."""
    sections = [tokens.text.index(line, len(prompt)) + len(line) for line in SECTIONS]
    lookouts: dict[Phase, list[Lookout]] = {phase: [] for phase in Phase}

    def look(phase: Phase, sentence: Span, at: Span) -> None:
        """Lookouts from the tokens before those of `sentence` to `at`, the sections before barred to other heads."""
        begun = max(section for section in sections if section <= sentence.start)
        barred, span, (first, last) = tokens.span(begun, begun + 1).start, tokens.span(*at), tokens.span(*sentence)
        lookouts[phase] += [Lookout(query, *span, min(barred, query)) for query in range(first - 1, last - 1)]

    words = {code: Span(*(prompt.index(case.text) + end for end in span)) for code, span in case.named.items()}
    place = sections[0]
    for label in case.labels:
        name = space.texts[int(space.ancestor(np.array([label]), 2)[0])]
        look(Phase.SHORTLIST, Span(place, place + len(name)), words[label])
        place += len(name) + len("; ")
    assert written.shortlist is not None
    listed: dict[int, Span] = {}
    for label, start, end in written.mentions:
        mention = Span(start + len(prompt), end + len(prompt))
        if end <= written.shortlist.end:
            listed[label] = mention
            if label in words:
                look(Phase.SHORTLIST, mention, words[label])
        else:
            look(Phase.REFINE, mention, listed[label])
    return lookouts


def tokenizer(space: LabelSpace, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for every word of the label space and the texts, and bytes for all else.

    Any text comes back as it was. A word has several tokens, one for each way it stands (with a space before, with a
    capital). Labels, categories and texts are what it is made from; the tree's upper nodes are not.
    """
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    labels = "".join(f"- {text}\n[[{text}]]\n" for text in space.texts[: len(space)])
    counts = Counter(word for text in (labels, *texts) for word, _ in splitter.pre_tokenize_str(text))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = sorted(word for word in counts if word not in alphabet)
    # The likeliest split is the one with the fewest bytes left over, then the fewest words.
    pieces = [(PAD, 0.0), (END, 0.0), *((byte, -100.0) for byte in alphabet), *((word, -1.0) for word in whole)]
    raw = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces))
    raw.pre_tokenizer, raw.decoder = splitter, decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )


def unseen(recipe: Recipe) -> list[Case]:
    """The cases to learn from; no document that the task itself has by default."""
    own = vignettes.generate(TASK_DOCUMENTS, TEST_SEED, recipe.n_topics)
    known = {(organism_hard.apart(case) if recipe.hard else case).text for case in own}
    drawn = cases("train", recipe.n_documents, recipe.n_topics, recipe.hard)
    return [case for case in drawn if case.text not in known]


def learned_from(recipe: Recipe) -> tuple[PreTrainedTokenizerFast, list[Lesson]]:
    """The tokenizer of a recipe, and what is to be learned from (see `unseen`)."""
    space = vignettes.label_space()
    drawn = unseen(recipe)
    sample = [trace(case, space, recipe.seed, recipe.n_siblings) for case in drawn[:WORDED]]
    words = tokenizer(space, (prompts.plain(written.document) + traces.format(written) for written in sample))
    return words, [lesson(case, space, words, recipe) for case in drawn]
