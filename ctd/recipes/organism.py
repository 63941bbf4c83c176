"""The model organism: a small Llama trained from nothing on generated vignettes, with and without planted heads.

Notes: its CoT names the categories of the findings, shortlists codes in the order in which the document names them,
compares each finding's code with the near miss that the document denies, and answers, in the format of
`ctd.reasoning.traces`. `organism` learns that from the texts alone. In `organism-planted` two heads are also taught to
look at the words of the document that name what is being written in topics and shortlist (Phase 1), and two of a later
layer to look back into the shortlist at the code being written in a comparison or the answer (Phase 2), while all other
heads are kept within the section being written: so the heads of each phase are known, and needed.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tokenizers
import torch
import typer
from tokenizers import decoders, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ctd import hardware
from ctd.cache import DATA, atomic, cache_dir, digest
from ctd.data.label_space import LabelSpace
from ctd.data.readers import organism as vignettes
from ctd.data.readers.organism import Case
from ctd.data.task import split_by_hash
from ctd.distill import checkpoint, train
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.mechanism.planted_heads import MANIFEST_KEYS
from ctd.reasoning import models, prompts, rationales, read_text, traces
from ctd.reasoning.generate import generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.token_spans import Span, tokenize
from ctd.reasoning.traces import Trace
from ctd.recipes import planting
from ctd.recipes.planting import Lookout

NAME, PLANTED = "organism", "organism-planted"
TASK_DOCUMENTS = 2000  # of the task by default
WORDED = 6000  # documents that the vocabulary is made from
TEST_SEED, TRAIN_SEED = 0, 1  # of the vignettes: the task's own, and those that are learned from
PAD, END = "<|pad|>", "<|end|>"
WORDS = r"^- |\[\[|\]\]|[.;:] (?=\p{Lu})| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}\[\]]+|[\[\]]|\n|\s"
"""What the tokenizer splits a text into first: bullets, brackets, stops, words with the space before them."""
LONGEST_QUOTE = 5  # words
SECTIONS = ("Topics: ", "\nShortlist:\n", "\nCompare:\n", "\nAnswer:\n")
"""What each section of a trace begins with."""


SETTINGS = train.Settings(
    batch_tokens=4096, learning_rate=3e-3, warmup_steps=60, decay=0.5, weight_decay=0.05, check_every=250
)


@dataclass(frozen=True)
class Recipe:
    """What an organism is made of and how it is trained; the manifest beside its weights says the same.

    n_documents: vignettes learned from, each once. n_topics: of the vignettes. n_siblings: codes of the gold labels'
    categories in the shortlist beside the gold labels, the denied ones first. layers, heads, width, inner: of the
    Llama; the width is the heads times 32. phase1, phase2: planted heads, none or each phase's in one layer.
    weight: of the planted heads' loss. barring: of the loss that keeps the others away. base: the organism beside it
    from which it is grown, or "" for random weights. n_validation: documents that the loss is watched on. n_test: test
    documents of the measured accuracies. Raises ValueError for a number out of range.
    """

    n_documents: int = 30_000
    n_topics: int = 3
    n_siblings: int = 3
    layers: int = 6
    heads: int = 6
    width: int = 192
    inner: int = 448
    phase1: tuple[Head, ...] = ()
    phase2: tuple[Head, ...] = ()
    weight: float = 0.2
    barring: float = 0.3
    base: str = ""
    n_validation: int = 100
    n_test: int = 256
    seed: int = 0
    settings: train.Settings = SETTINGS

    def __post_init__(self) -> None:
        for name in ("n_documents", "layers", "heads", "inner", "n_validation", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("n_siblings", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.width < self.heads or self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of {2 * self.heads} (twice the heads), got {self.width}")
        if bool(self.phase1) != bool(self.phase2):
            raise ValueError("plant heads of both phases, or of none")
        if not (self.weight > 0 and self.barring >= 0):
            raise ValueError(f"weight must be above 0 and barring at least 0, got {self.weight} and {self.barring}")

    @property
    def planted(self) -> dict[Phase, tuple[Head, ...]]:
        """The planted heads of each phase, empty where none are."""
        return {Phase.SHORTLIST: self.phase1, Phase.REFINE: self.phase2} if self.phase1 else {}


RECIPES = {
    NAME: Recipe(),
    PLANTED: Recipe(
        n_documents=20_000,
        phase1=(Head(2, 1), Head(2, 4)),
        phase2=(Head(4, 0), Head(4, 3)),
        base=NAME,
        settings=replace(SETTINGS, learning_rate=1.5e-3),
    ),
}


class Lesson(NamedTuple):
    """A case with its trace, as tokens, and where the planted heads of each phase are to look."""

    case: Case
    trace: Trace
    example: train.Example
    lookouts: dict[Phase, list[Lookout]]


def trace(case: Case, space: LabelSpace, seed: int, n_siblings: int = 3) -> Trace:
    """The constructed trace of a case (see the module's notes), from its arguments alone.

    The comparison quotes what decides: the document's word before the finding, which says that it holds, and the
    finding's first words. All stands in the order in which the document names it; a code that it does not name stands
    in the shortlist behind the first of its category.
    """
    rng = np.random.default_rng((seed, *case.uid.encode()))
    categories = space.ancestor(np.array(case.labels), 2)
    near, place = {}, {code: start for code, (start, _) in case.named.items()}
    for label, denied, category in zip(case.labels, case.denied, categories, strict=True):
        family = [code for code in space.descend(int(category)).tolist() if code not in (label, denied)]
        near[label] = [denied, *(family[row] for row in rng.permutation(len(family)))]
        place |= dict.fromkeys(family, min(place[label], place[denied]) + 1)
    size = len(case.labels) + n_siblings + len(case.topics)
    listed = rationales.shortlist(case.labels, near, case.topics, size, n_siblings, rng)
    listed.sort(key=lambda code: (place[code], code))
    comparisons = []
    for label, denied, (start, end) in zip(case.labels, case.denied, case.findings, strict=True):
        if denied in listed:
            before = case.text.rindex(" ", 0, start - 1) + 1
            quoted = traces.quote(" ".join(case.text[before:end].split()[:LONGEST_QUOTE]))
            template = rationales.DECIDED[rng.integers(len(rationales.DECIDED))]
            named = {"gold": traces.mark(space.texts[label]), "near": traces.mark(space.texts[denied])}
            comparisons.append(template.format(words=quoted, **named))
    text = traces.write(
        "; ".join(space.texts[category] for category in categories),
        (space.texts[label] for label in listed),
        comparisons,
        (space.texts[label] for label in case.labels),
    )
    return traces.parse(text, space, case.uid, case.text)


def lesson(case: Case, space: LabelSpace, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Lesson:
    """A case as the model is to learn it."""
    made = trace(case, space, recipe.seed, recipe.n_siblings)
    prompt, text = prompts.plain(case.text), traces.format(made)
    tokens = tokenize(prompt + text, tokenizer)
    n_prompt = tokens.span(len(prompt), len(prompt) + 1).start
    assert tokenizer.eos_token_id is not None

    lookouts: dict[Phase, list[Lookout]] = {phase: [] for phase in Phase}

    def look(phase: Phase, written: Span, at: Span) -> None:
        """Lookouts from the tokens before those of `written` to `at`, the sections before barred to other heads."""
        begun = max(section for section in sections if section <= written.start)
        barred, span, (first, last) = tokens.span(begun, begun + 1).start, tokens.span(*at), tokens.span(*written)
        lookouts[phase] += [Lookout(query, *span, min(barred, query)) for query in range(first - 1, last - 1)]

    whole = prompt + text
    sections = [whole.index(line, len(prompt)) + len(line) for line in SECTIONS]
    words = {code: Span(*(prompt.index(case.text) + end for end in span)) for code, span in case.named.items()}
    place = sections[0]
    for label in case.labels:
        name = space.texts[int(space.ancestor(np.array([label]), 2)[0])]
        look(Phase.SHORTLIST, Span(place, place + len(name)), words[label])
        place += len(name) + len("; ")
    assert made.shortlist is not None
    listed: dict[int, Span] = {}
    for label, start, end in made.mentions:
        mention = Span(start + len(prompt), end + len(prompt))
        if end <= made.shortlist.end:
            listed[label] = mention
            if label in words:
                look(Phase.SHORTLIST, mention, words[label])
        else:
            look(Phase.REFINE, mention, listed[label])
    ids = [*tokens.ids, tokenizer.eos_token_id]
    return Lesson(case, made, train.Example(ids, n_prompt), lookouts)


def cases(split: str, n: int, n_topics: int = 3) -> list[Case]:
    """The first n cases to learn from ("train"), or of the task's own ("validation", "test").

    Those to learn from have another seed. Raises ValueError for another split.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split must be train, validation or test, got {split!r}")
    seed = TRAIN_SEED if split == "train" else TEST_SEED
    drawn = vignettes.generate(40 * n + 1000, seed, n_topics)
    return list(islice((case for case in drawn if split_by_hash(case.uid) == split), n))


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


def fresh(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained organism, float32, its weights drawn by the recipe's seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return LlamaForCausalLM(config)


def build(recipe: Recipe, folder: Path, work: Path | None = None) -> dict[str, Any]:
    """Train an organism and write weights (bfloat16), tokenizer, manifest and loss curve to `folder`; the manifest.

    work: for the checkpoint from which a killed run goes on; a folder of the recipe's own in the cache when not given.
    """
    work = work or cache_dir("training", f"{folder.name}-{digest([json.dumps(asdict(recipe))])[:16]}")
    began = time.perf_counter()
    space = vignettes.label_space()
    words, learned = _school(replace(recipe, phase1=(), phase2=()))
    watched = [lesson(case, space, words, recipe) for case in cases("validation", recipe.n_validation, recipe.n_topics)]
    tokens = sum(len(one.example.ids) for one in learned)
    print(
        f"{folder.name}: {len(learned):,} documents, {tokens:,} tokens ({tokens / len(learned):.0f} each), "
        f"{len(words):,} in the vocabulary, made in {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    model = (
        LlamaForCausalLM.from_pretrained(folder.parent / recipe.base).float() if recipe.base else fresh(recipe, words)
    )
    loss: train.Loss = train.token_loss
    if recipe.planted:
        loss = planting.PlantedLoss(
            model, recipe.planted, [one.lookouts for one in learned], recipe.weight, recipe.barring
        )
    mixed = hardware.computes_bfloat16("cpu")
    log = train.train(
        model,
        [one.example for one in learned],
        replace(recipe.settings, mixed=mixed),
        work,
        validation=[one.example for one in watched],
        loss=loss,
        desc=folder.name,
    )
    manifest: dict[str, Any] = {
        "name": folder.name,
        "recipe": asdict(recipe),
        "planted": {MANIFEST_KEYS[phase]: heads for phase, heads in recipe.planted.items()},
        "parameters": model.num_parameters(),
        "labels": len(space),
        "categories": len(set(space.ancestor(np.arange(len(space)), 2).tolist())),
        "documents": len(learned),
        "tokens": tokens,
        "steps": len(log),
        "minutes": round(sum(row["seconds"] for row in log) / 60, 1),
        "hardware": hardware.describe(),
        "precision": "bfloat16 (mixed)" if mixed else "float32",
        "validation_loss": log[-1]["validation"],
    }
    with atomic(folder) as scratch:
        model.bfloat16().save_pretrained(scratch)
        words.save_pretrained(scratch)
        shutil.copy(work / checkpoint.LOG, scratch / "loss.csv")
        manifest["measured"] = measure(scratch, recipe)
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


@lru_cache(maxsize=1)
def _school(recipe: Recipe) -> tuple[PreTrainedTokenizerFast, list[Lesson]]:
    """The tokenizer of a recipe, and what is to be learned from; no document that the task itself has by default."""
    space = vignettes.label_space()
    known = {case.text for case in vignettes.generate(TASK_DOCUMENTS, TEST_SEED, recipe.n_topics)}
    drawn = [case for case in cases("train", recipe.n_documents, recipe.n_topics) if case.text not in known]
    sample = [trace(case, space, recipe.seed, recipe.n_siblings) for case in drawn[:WORDED]]
    words = tokenizer(space, (prompts.plain(one.document) + traces.format(one) for one in sample))
    return words, [lesson(case, space, words, recipe) for case in drawn]


def measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """What an organism gets right on test vignettes, each phase by itself, with chance in its place, and in all.

    Shares of documents, greedy decoding, lists kept to labels. topics: categories named are those of the gold labels.
    shortlist_recall: of gold labels. answer: exactly the gold labels. answer_given_shortlist: with a right CoT up to
    the comparisons put in its place. answer_by_chance_phase1: with another document's. answer_by_chance_phase2: one of
    the own shortlist's codes of each named category, drawn (expected value). planted: see `_mechanism`.
    """
    space = vignettes.label_space()
    language_model = models.load(str(folder), dtype="float32")
    lists = LabelLists(space, language_model.tokenizer)
    drawn = cases("test", recipe.n_test, recipe.n_topics)
    lessons = [lesson(case, space, language_model.tokenizer, recipe) for case in drawn]
    asked = [prompts.plain(case.text) for case in drawn]
    right = [re.split(r"(?<=\nCompare:\n)", traces.format(one.trace))[0] for one in lessons]
    longest = max(len(one.example.ids) - one.example.n_prompt for one in lessons) + 40

    def written(begun: Sequence[str]) -> list[Trace]:
        given = [prompt + start for prompt, start in zip(asked, begun, strict=True)]
        done = generate(language_model, given, max_tokens=longest, lists=lists, desc="measuring")
        return [
            read_text.read(start + one.text, space, uid=case.uid, document=case.text)
            for start, one, case in zip(begun, done, drawn, strict=True)
        ]

    def exact(answers: Sequence[Trace]) -> float:
        hits = [set(one.answered) == set(case.labels) for one, case in zip(answers, drawn, strict=True)]
        return float(np.mean(hits))

    own = written([""] * len(drawn))
    named = [_topics(one, space) for one in own]
    wanted = [set(space.ancestor(np.array(case.labels), 2).tolist()) for case in drawn]
    found = [len(set(one.shortlisted) & set(case.labels)) for one, case in zip(own, drawn, strict=True)]
    measured: dict[str, Any] = {
        "documents": len(drawn),
        "in_format": float(np.mean([not one.error for one in own])),
        "topics": float(np.mean([names == want for names, want in zip(named, wanted, strict=True)])),
        "shortlist_recall": sum(found) / sum(len(case.labels) for case in drawn),
        "answer": exact(own),
        "answer_given_shortlist": exact(written(right)),
        "answer_by_chance_phase1": exact(written([*right[1:], right[0]])),
        "answer_by_chance_phase2": float(
            np.mean([_drawn(one, names, case, space) for one, names, case in zip(own, named, drawn, strict=True)])
        ),
    }
    return measured | ({"planted": _mechanism(language_model.model, lessons, recipe)} if recipe.planted else {})


def _topics(written: Trace, space: LabelSpace) -> set[int]:
    """The categories that a trace's topics line names; -1 for what is none."""
    known = {text: node for node, text in enumerate(space.texts) if space.depth[node] == 2}
    line = re.match(r"Topics: (.*)", written.cot)
    return {known.get(name, -1) for name in line[1].split("; ")} if line else set()


def _drawn(written: Trace, named: set[int], case: Case, space: LabelSpace) -> float:
    """How likely one code drawn from the shortlist for each category named is the whole gold answer."""
    if named != set(space.ancestor(np.array(case.labels), 2).tolist()):
        return 0.0
    listed = np.array(written.shortlisted, np.int32)
    above = space.ancestor(listed, 2).tolist() if len(listed) else []
    return float(
        np.prod(
            [
                1 / above.count(int(space.ancestor(np.array([label]), 2)[0])) if label in listed else 0.0
                for label in case.labels
            ]
        )
    )


def _mechanism(model: Any, lessons: Sequence[Lesson], recipe: Recipe) -> dict[str, Any]:
    """Whether the planted heads look where they were taught to, and whether the model needs what they write.

    mass: the share of attention on the targets, mean over a phase's planted heads; mass_others: over all other heads,
    and the highest of them. loss: of each phase's lookouts' tokens (nats, mean), as it is, with that phase's planted
    heads silent, and with as many others of the same layer silent.
    """
    examples, lookouts = [one.example for one in lessons], [one.lookouts for one in lessons]
    shares = planting.mass(model, examples, lookouts, recipe.planted)
    report: dict[str, Any] = {}
    for phase, planted in recipe.planted.items():
        rest = shares[phase].copy()
        rest[tuple(zip(*planted, strict=True))] = np.nan
        layer = planted[0].layer
        others = [Head(layer, head) for head in range(recipe.heads) if Head(layer, head) not in planted]
        queries = [{one.query for one in of[phase]} for of in lookouts]
        losses = {}
        for name, silent in (("whole", []), ("planted_silent", planted), ("others_silent", others[: len(planted)])):
            with planting.silenced(model, silent):
                losses[name] = _loss_at(model, examples, queries)
        report[MANIFEST_KEYS[phase]] = {
            "mass": float(np.mean([shares[phase][head] for head in planted])),
            "mass_others": float(np.nanmean(rest)),
            "mass_highest_other": float(np.nanmax(rest)),
            "loss": losses,
        }
    return report


@torch.no_grad()
def _loss_at(model: Any, examples: Sequence[train.Example], queries: Sequence[set[int]]) -> float:
    """Mean cross-entropy (nats) of the tokens written from the given positions."""
    total, count = 0.0, 0
    for rows in train.batches(examples, train.Settings()):
        batch = train.collate(examples, rows, model.device)
        targets = torch.full_like(batch.targets, train.IGNORED)
        for place, row in enumerate(rows):
            chosen = sorted(queries[row])
            targets[place, chosen] = batch.targets[place, chosen]
        total += float(train.token_loss(model, batch._replace(targets=targets)))
        count += int((targets != train.IGNORED).sum())
    return total / count


app = typer.Typer(add_completion=False)


@app.command(help=(__doc__ or "").partition("\n")[0])
def _command(
    names: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(RECIPES)}; both when left out.")] = None,
    n_documents: Annotated[int, typer.Option(help="Vignettes to learn from; 0 for each recipe's own.", min=0)] = 0,
    folder: Annotated[Path, typer.Option(help="Where their folders are written; each replaced as a whole.")] = DATA,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 for as many as torch takes.", min=0)] = 0,
) -> None:
    """Train anew, or go on where a killed run stopped; write weights, manifest and loss curve, and say what they do."""
    if threads:
        torch.set_num_threads(threads)
    try:
        if unknown := set(names or []) - set(RECIPES):
            raise ValueError(f"organism must be one of {', '.join(RECIPES)}, got {sorted(unknown)[0]!r}")
        for name in names or RECIPES:
            recipe = RECIPES[name]
            manifest = build(replace(recipe, n_documents=n_documents or recipe.n_documents), folder / name)
            typer.echo(json.dumps({key: manifest[key] for key in ("name", "steps", "minutes", "measured")}, indent=2))
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
