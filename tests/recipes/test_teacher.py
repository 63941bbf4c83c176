"""The teacher's examples: what they are made of, and that nothing of validation or test reaches them."""

import json
from collections import Counter
from dataclasses import asdict, fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors import safe_open
from typer.testing import CliRunner

from ctd.data.label_space import LabelSpace
from ctd.distill import examples
from ctd.distill import train as distill
from ctd.distill.lora import MergedLoRA
from ctd.reasoning import models, prompts, trace_parser, traces
from ctd.recipes import teacher
from ctd.recipes.teacher import Pass, Recipe
from ctd.retrieval.index import LabelIndex
from tests.conftest import HashEncoder
from tests.reasoning.test_prompts import byte_level
from tests.reasoning.test_rationales import mesh_like

PASSES = (
    Pass(40, answers=(0.95, 0.25), longest=1000, right_only=False, shortlist_order="random"),
    Pass(30, first=-1, longest=1000),
)
RECIPE = Recipe(
    PASSES, document_tokens=60, shortlist_size=8, n_near=3, n_comparisons=2, n_clusters=2, candidates=4, rank=2,
    alpha=4.0, n_validation=5, settings=distill.Settings(batch_tokens=1500, save_every=2),
)  # fmt: skip
SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def task():
    """The made task, without the test documents whose label set a training document shares."""
    task = mesh_like()
    known = {tuple(sorted(row)) for row in task.documents["train"]["labels"]}
    test = task.documents["test"]
    rows = [row for row, labels in enumerate(test["labels"]) if tuple(sorted(labels)) not in known]
    assert len(rows) > 15
    return replace(task, documents=type(task.documents)({**task.documents, "test": test.select(rows)}))


@pytest.fixture(scope="module")
def tokenizer(task):
    return byte_level([text for split in task.documents for text in task.documents[split]["text"]], 500)


@pytest.fixture(scope="module")
def index(task, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield LabelIndex.build(task.space, HashEncoder())


@pytest.fixture
def make(task, index, tokenizer, own_cache):
    """Examples of the task, the recipe or its pass changed as asked."""

    def examples(split="train", task=task, number=0, **changes):
        of_pass = {name: changes.pop(name) for name in list(changes) if hasattr(PASSES[0], name)}
        recipe = replace(RECIPE, passes=(replace(PASSES[number], **of_pass),), **changes)
        return teacher.examples(task, split, index, tokenizer, recipe)

    return examples


def read(example, tokenizer):
    """Prompt and taught text of an example, its end token left out."""
    assert example.ids[-1] == tokenizer.eos_token_id
    return tokenizer.decode(example.ids[: example.n_prompt]), tokenizer.decode(example.ids[example.n_prompt : -1])


def kind(example, tokenizer):
    prompt, text = read(example, tokenizer)
    if text.startswith(traces.ANSWER):
        assert "Candidates:" not in prompt
        return "answer"
    return "candidates" if "\nCandidates:\n" in prompt else "trace"


def answered(text, space):
    """The labels of a text's answer."""
    items = text[text.index(traces.ANSWER) + len(traces.ANSWER) :].splitlines()
    return {space.texts.index(item.removeprefix("- ")) for item in items}


def of_documents(task, n):
    """n training documents: the task's own, again and again under new names."""
    train = task.documents["train"]
    rows = [{**train[row % len(train)], "uid": f"n{row}"} for row in range(n)]
    documents = type(train).from_list(rows, train.features)
    return replace(task, documents=type(task.documents)({**task.documents, "train": documents}))


def test_each_document_is_taught_once_and_by_its_own_gold_labels(task, tokenizer, make):
    answers = {}
    for example in make():
        prompt, text = read(example, tokenizer)
        document = prompt.partition("\n")[0].removeprefix("Document: ")
        assert document not in answers
        answers[document] = answered(text, task.space)
        if text.startswith(traces.OPEN):
            assert traces.format(trace_parser.parse(text, task.space)) == text
            assert prompt.endswith("\n")
    gold = task.gold("train")
    lines = [" ".join(text.split()) for text in task.documents["train"]["text"]]
    expected = {line: set(gold[row].indices.tolist()) for row, line in enumerate(lines) if gold[row].nnz}
    assert len(answers) == len(expected)
    for document, labels in answers.items():
        (whole,) = [line for line in expected if line.startswith(document)]
        assert labels == expected[whole]


@pytest.mark.parametrize("number", [0, 1])
def test_no_text_and_no_label_set_of_validation_or_test_is_taught(number, task, tokenizer, make):
    texts = [" ".join(read(example, tokenizer)) for example in make(number=number)]
    sets = {frozenset(answered(text, task.space)) for text in texts}
    for split in ("validation", "test"):
        for text in task.documents[split]["text"]:
            beginning, _, _ = text.partition("\n")
            assert beginning.endswith(f"of {split}.")
            assert not any(beginning in taught or f"of {split}" in taught for taught in texts)
    gold = task.gold("test")
    assert gold.nnz > 20
    assert not sets & {frozenset(gold[row].indices.tolist()) for row in range(gold.shape[0])}


def test_what_is_taught_does_not_depend_on_validation_and_test(task, make):
    empty = {split: task.documents[split].select([]) for split in ("validation", "test")}
    alone = replace(task, documents=type(task.documents)({**task.documents, **empty}))
    assert make(task=alone) == make()
    assert make(task=alone, number=1) == make(number=1)


@pytest.mark.parametrize("number", [0, 1])
def test_the_test_split_is_refused(number, make):
    with pytest.raises(ValueError, match="split must be train or validation, got 'test': no trace is made from a test"):
        make("test", number=number)


@pytest.mark.parametrize(
    ("first", "rows"), [(0, range(20)), (30, range(30, 40)), (-1, range(39, 19, -1)), (-31, range(9, -1, -1))]
)
def test_a_pass_goes_over_its_documents(first, rows, task, tokenizer, make):
    assert Pass(20, first).rows(40).tolist() == list(rows)
    taught = [int(read(example, tokenizer)[0].split('"')[1]) for example in make(n_documents=20, first=first)]
    assert sorted(taught) == [row for row in sorted(rows) if task.gold("train")[row].nnz]


def test_passes_draw_each_their_own(task, index, tokenizer, own_cache):
    twice = replace(RECIPE, passes=(PASSES[0], PASSES[0]))
    first, second = (teacher.examples(task, "train", index, tokenizer, twice, number) for number in (0, 1))
    assert first != second
    assert sorted(read(e, tokenizer)[0].split('"')[1] for e in first) == sorted(
        read(e, tokenizer)[0].split('"')[1] for e in second
    )


def test_a_pass_of_right_labels_learns_all_of_a_trace_but_the_wrong_labels_of_its_shortlist(task, tokenizer, make):
    kinds = Counter()
    for example in make(task=of_documents(task, 600), n_documents=600, number=1):
        kinds[kind(example, tokenizer)] += 1
        _, text = read(example, tokenizer)
        (targets,) = distill.collate([example], [0]).targets.tolist()
        learned = [token for token in targets if token != distill.IGNORED]
        if not text.startswith(traces.OPEN):
            assert learned == list(example.ids[example.n_prompt :])
            continue
        trace = trace_parser.parse(text, task.space)
        right = {task.space.texts[label] for label in trace.answered}
        lines = text.split("\n")
        first, last = lines.index("Shortlist:") + 1, lines.index("Compare:")
        wrong = [line.removeprefix("- ") for line in lines[first:last] if line.removeprefix("- ") not in right]
        unlearned = [tokenizer.decode(example.ids[start:end]).strip() for start, end in example.only_read]
        assert unlearned == wrong
        scored = lines[:first] + [line if line[2:] in right else "-" for line in lines[first:last]] + lines[last:]
        assert "".join(tokenizer.decode(learned[:-1]).split()) == "".join("\n".join(scored).split())
        kinds["with wrong labels"] += bool(wrong)
    n = kinds["answer"] + kinds["trace"] + kinds["candidates"]
    assert kinds["answer"] / n == pytest.approx(0.15, abs=4 * np.sqrt(0.1275 / n))
    assert kinds["candidates"] / (n - kinds["answer"]) == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / (0.85 * n)))
    assert kinds["with wrong labels"] > 300


def test_answers_alone_give_way_to_reasoning_as_stated(task, tokenizer, make):
    mixed = make(task=of_documents(task, 3000), n_documents=3000)
    kinds = pd.Series([kind(example, tokenizer) for example in mixed])
    place = np.arange(len(kinds)) / len(kinds)
    for part in range(5):
        share = (kinds[place.searchsorted(part / 5) : place.searchsorted((part + 1) / 5)] == "answer").mean()
        expected = 0.95 - 0.7 * (part + 0.5) / 5
        assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / (len(kinds) / 5)))
    predictions = kinds[kinds != "answer"]
    assert (predictions == "candidates").mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / len(predictions)))


def test_candidates_are_what_the_index_finds_without_unscored_labels(task, index, tokenizer, make):
    heads = np.flatnonzero(task.space.parents[:42] >= 42).astype(np.int32)
    headless = replace(of_documents(task, 400), unscored=heads)
    prompt_texts = [read(example, tokenizer)[0] for example in make(task=headless, n_documents=400)]
    listed = [prompt for prompt in prompt_texts if "\nCandidates:\n" in prompt]
    assert len(listed) > 15
    texts = {" ".join(text.split()): text for text in task.documents["train"]["text"]}
    struck = 0
    for prompt in listed:
        document, _, candidates = prompt.removeprefix("Document: ").partition("\nCandidates:\n")
        (whole,) = [text for line, text in texts.items() if line.startswith(document)]
        _, labels = index.search([whole], 4 + len(heads))
        expected = [task.space.texts[label] for label in labels[0] if label not in heads][:4]
        struck += any(label in heads for label in labels[0][:4])
        assert candidates == "".join(f"- {text}\n" for text in expected)
    assert struck > 5


@pytest.mark.parametrize("number", [0, 1])
def test_long_traces_are_taught_by_their_answer_alone(number, task, tokenizer, make):
    common = {"task": of_documents(task, 400), "n_documents": 400, "number": number}
    free = make(**common)
    lengths = [len(example.ids) for example in free if kind(example, tokenizer) != "answer"]
    longest = int(np.median(lengths))
    held = make(**common, longest=longest)
    turned = 0
    for before, after in zip(free, held, strict=True):
        if len(before.ids) <= longest:
            assert after == before
        else:
            assert kind(after, tokenizer) == "answer"
            assert answered(read(after, tokenizer)[1], task.space) == answered(read(before, tokenizer)[1], task.space)
            turned += kind(before, tokenizer) != "answer"
    assert turned > 30


def test_documents_are_cut_and_quotes_come_from_what_is_left(task, tokenizer, make):
    space, quoted = task.space, 0
    for example in make(task=of_documents(task, 400), n_documents=400, document_tokens=25):
        prompt, text = read(example, tokenizer)
        document = prompt.partition("\n")[0].removeprefix("Document: ")
        assert len(tokenizer(document)["input_ids"]) <= 25
        if text.startswith(traces.OPEN):
            quotes = [words for c in trace_parser.parse(text, space).comparisons for words in c.quotes]
            assert all(words in document for words in quotes)
            quoted += len(quotes)
    assert quoted > 10


def test_the_prompt_is_not_learned_and_the_end_is(tokenizer):
    example = examples.example(prompts.plain("Calcium\nin rats.", ["Calcium"]), "Answer:\n- Rats\n", tokenizer)
    assert tokenizer.decode(example.ids[: example.n_prompt]) == "Document: Calcium in rats.\nCandidates:\n- Calcium\n"
    assert tokenizer.decode(example.ids[example.n_prompt :]) == "Answer:\n- Rats\n<end>"
    batch = distill.collate([example], [0])
    assert (batch.targets != -100).sum() == len(example.ids) - example.n_prompt
    assert batch.targets[0, -2] == tokenizer.eos_token_id
    endless = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match="the tokenizer has no end token"):
        examples.example("Calcium.", "Answer:\n- Rats\n", endless)


def test_prompt_and_text_are_the_tokens_of_both_together(task, tokenizer, make):
    """What `generate` reads is one string: its tokens must be those of training."""
    for example in make():
        prompt, text = read(example, tokenizer)
        assert tokenizer(prompt + text)["input_ids"] == example.ids[:-1]


def test_examples_depend_on_the_recipe_alone(make):
    usual = make()
    assert make() == usual
    for change in (
        {"seed": 1}, {"n_documents": 10}, {"document_tokens": 20}, {"shortlist_size": 5}, {"n_near": 0},
        {"n_comparisons": 0}, {"candidates": 1}, {"longest": 90}, {"first": -1}, {"answers": (0.5, 0.5)},
        {"right_only": True}, {"shortlist_order": "document"},
    ):  # fmt: skip
        assert make(**change) != usual, change
    reordered = sorted(make(), key=lambda example: example.ids)
    assert [example.ids for example in reordered] != [example.ids for example in usual]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({name: 0}, f"{name} must be at least 1, got 0")
            for name in ("document_tokens", "shortlist_size", "n_clusters", "n_topics")
        ),
        *(({name: 0}, f"{name} must be at least 1, got 0") for name in ("candidates", "rank", "n_validation")),
        *(({name: -1}, f"{name} must be at least 0, got -1") for name in ("n_comparisons", "seed")),
        ({"n_near": 9}, r"n_near must be between 0 and 8 \(shortlist_size\), got 9"),
        ({"passes": ()}, "passes must be at least one, got none"),
        ({"passes": (Pass(5, longest=60),)}, r"longest must be above 60 \(document_tokens\), got 60"),
        ({"alpha": 0.0}, "alpha must be above 0, got 0.0"),
    ],
)
def test_a_recipe_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_documents": 0}, "n_documents must be at least 1, got 0"),
        ({"answers": (0.5, 1.5)}, "answers must be between 0 and 1, got 0.5 and 1.5"),
    ],
)
def test_a_pass_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PASSES[0], **change)


@pytest.fixture
def small(task, tokenizer, monkeypatch, own_cache, tmp_path):
    """The real build, on a small task and a random model that lies in the folder given."""
    heads = task.space.parents[:42]
    parents = np.where(heads >= 42, -1, heads).astype(np.int32)
    space = LabelSpace("small", task.space.ids[:42], task.space.texts[:42], 42, parents)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **SHAPE)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    real = models.load

    def load(name, dtype):
        assert (name, dtype) == ("smollm2", "bfloat16")
        return real(str(tmp_path / "base"), dtype=dtype, device="cpu")

    monkeypatch.setattr(teacher.readers, "load", lambda name: replace(task, space=space))
    monkeypatch.setattr(teacher.encoders, "load", lambda name: HashEncoder())
    monkeypatch.setattr(teacher.models, "load", load)
    return lambda **options: real(str(tmp_path / "base"), device="cpu", **options)


def test_the_teacher_is_built_written_and_loaded_again(small, tmp_path):
    folder = tmp_path / "teacher"
    teacher.build(RECIPE, folder)
    assert {file.name for file in folder.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "loss.csv", "manifest.json"
    }  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["recipe"] == json.loads(json.dumps(asdict(RECIPE)))
    assert set(manifest["recipe"]) == {field.name for field in fields(Recipe)}
    curve = pd.read_csv(folder / "loss.csv")
    assert len(curve) == manifest["steps"] > 4
    assert set(curve["pass"]) == {1, 2}
    assert curve["validation"].iloc[-1] == manifest["validation_loss"]
    tuned, base = (small(dtype="bfloat16", **adapter).model for adapter in ({"adapter": folder}, {}))
    moved = {name for name, weight in base.state_dict().items() if not torch.equal(weight, tuned.state_dict()[name])}
    assert moved
    assert all("_proj" in name for name in moved)


@pytest.mark.parametrize("where", ["first pass", "second pass"])
def test_a_killed_build_goes_on_and_ends_with_the_same_adapter(where, small, tmp_path, monkeypatch):
    teacher.build(RECIPE, tmp_path / "whole", tmp_path / "work-whole")
    taken, real = iter(range(100)), MergedLoRA.take_gradients
    steps = pd.read_csv(tmp_path / "whole" / "loss.csv")["pass"].value_counts()
    last = {"first pass": 3, "second pass": steps[1] + 1}[where]

    def killed(self):
        if next(taken) == last:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MergedLoRA, "take_gradients", killed)
        teacher.build(RECIPE, tmp_path / "killed", tmp_path / "work")
    assert not (tmp_path / "killed").exists()
    torch.manual_seed(99)
    teacher.build(RECIPE, tmp_path / "killed", tmp_path / "work")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_recipes_do_not_share_a_checkpoint(small, tmp_path):
    teacher.build(RECIPE, tmp_path / "a")
    teacher.build(replace(RECIPE, seed=1), tmp_path / "b")
    adapters = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert adapters[0] != adapters[1]


def test_the_command_says_what_it_does_and_what_went_wrong(monkeypatch, tmp_path):
    builds = []
    monkeypatch.setattr(teacher, "build", lambda recipe, folder: builds.append((recipe, folder)))
    (tmp_path / "made").mkdir()
    shell = CliRunner()
    assert "--most" in shell.invoke(teacher.app, ["--help"]).output
    result = shell.invoke(teacher.app, ["--most", "9", "--folder", str(tmp_path / "made")])
    assert result.exit_code == 0, result.output
    ((recipe, folder),) = builds
    assert [stage.n_documents for stage in recipe.passes] == [9] * len(teacher.PASSES)
    assert folder == tmp_path / "made"

    def refuse(recipe, folder):
        raise ValueError("seed must be at least 0, got -1")

    monkeypatch.setattr(teacher, "build", refuse)
    result = shell.invoke(teacher.app, [])
    assert (result.exit_code, result.output) == (1, "seed must be at least 0, got -1\n")


def test_the_committed_teacher_is_what_its_recipe_says_and_small_enough():
    manifest = json.loads((teacher.FOLDER / "manifest.json").read_text())
    assert manifest["recipe"] == json.loads(json.dumps(asdict(teacher.Recipe())))
    weights = teacher.FOLDER / "adapter_model.safetensors"
    assert weights.stat().st_size <= 20e6
    with safe_open(weights, "pt") as stored:
        assert all(stored.get_tensor(name).isfinite().all() for name in stored.keys())  # noqa: SIM118
    losses = pd.read_csv(teacher.FOLDER / "loss.csv")
    assert len(losses) == manifest["steps"]
    for _, steps in losses.groupby("pass"):
        assert (np.diff(steps["validation"].dropna()) < 0).all()
    assert losses["validation"].iloc[-1] == manifest["validation_loss"]
