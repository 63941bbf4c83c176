"""Every cached thing lies at another path where any one of its inputs differs, by way of the code that makes it.

Each case of `CASES` calls the real function and stops it where it asks for the path. A new `ctd.keys.Maker` needs a
case, with a change of each of its inputs. Students are trained in tests/distill/test_teach.py, which changes theirs.
"""

import importlib
import json
import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from datasets import DatasetDict

import ctd
from ctd.book.explorer import make as explorer
from ctd.book.explorer.collection import Collection
from ctd.data import readers
from ctd.data.label_space import LabelSpace
from ctd.data.readers import mimic, xmc
from ctd.data.task import Card, Task
from ctd.distill import teacher_states, trace_signals
from ctd.distill.examples import Example
from ctd.keys import Maker
from ctd.mechanism import self_check
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import models, weight_parts
from ctd.reasoning.grammar import LabelLists
from ctd.recipes import organism, organism_recipe, teacher
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex
from tests.conftest import HashEncoder, documents
from tests.mechanism.test_heads import PASSAGES
from tests.reasoning.test_prompts import byte_level

ELSEWHERE = {"students": "tests/distill/test_teach.py"}
TEXTS, OTHER_TEXTS = ["Liver", "Heart"], ["Heart", "Liver"]
TINY = LabelSpace("tiny", ["a", "b"], TEXTS, 2)
TREE = replace(TINY, parents=np.array([-1, 0], np.int32))
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")


class File(NamedTuple):
    """A file that a case writes before it calls."""

    name: str
    content: str = "{}"


class Asked(Exception):
    """Raised in place of the work, with the path that was asked for."""


@dataclass(frozen=True)
class Case:
    """How to have a thing made.

    place: the dotted name of the function that is given the path.
    make: calls the maker; takes an empty folder, a monkeypatch and keyword arguments.
    arguments: of `make`.
    changes: for each input of the maker the arguments that differ, one call each.
    """

    place: str
    make: Callable[..., None]
    arguments: dict[str, Any]
    changes: dict[str, list[dict[str, Any]]]


def each(**values: Any) -> list[dict[str, Any]]:
    """Changes of one argument at a time."""
    return [{name: value} for name, value in values.items()]


def write(folder: Path, value: Any) -> Any:
    """A value with its files written, and their paths in place of them."""
    if isinstance(value, list):
        return [write(folder, part) for part in value]
    if not isinstance(value, File):
        return value
    path = folder / value.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value.content)
    return path


def make_vectors(folder, patch, encoder, texts, processor, newer=""):
    patch.setattr(encoders, "version", lambda library: "2.1" if library == newer else "2.0")
    patch.setattr("platform.machine", lambda: processor)
    encoders.encode(encoder, texts)


def make_index(folder, patch, encoder, texts, processor, kind, seed, faiss, newer=""):
    patch.setattr(encoders, "version", lambda library: "2.1" if library == newer else "2.0")
    patch.setattr("platform.machine", lambda: processor)
    patch.setattr("faiss.__version__", faiss)
    LabelIndex.build(replace(TINY, texts=texts), encoder, kind, seed)


def make_grammar(folder, patch, texts, tokenizer):
    LabelLists(replace(TINY, texts=texts), tokenizer)


def make_unpacked(folder, patch, weights, transformers):
    path = write(folder, File("model.gguf", weights))
    patch.setattr(models, "packaged_file", lambda source: path)
    patch.setattr("ctd.reasoning.weights.transformers.__version__", transformers)
    models.load(models.SMOLLM2)


def make_unpacked_parts(folder, patch, sha256, transformers):
    entry = {"package": "p{n}", "version": "1", "parts": 1, "file": "{n}", "bytes": 1, "sha256": sha256, "licence": ""}
    path = write(folder, File("sources-reasoner.json", json.dumps({"stand_in": entry})))
    patch.setattr(weight_parts, "SOURCES", path)
    patch.setattr("ctd.reasoning.weight_parts.transformers.__version__", transformers)
    weight_parts.unpacked("stand_in")


def make_self_check(folder, patch, key, versions):
    for library, version in versions.items():
        patch.setattr(f"ctd.mechanism.self_check.{library}.__version__", version)
    self_check.check(SimpleNamespace(key=key))


def make_signals(folder, patch, key, traces, heads, processor, newer="", uniform=False):
    patch.setattr(trace_signals, "version", lambda library: "2.1" if library == newer else "2.0")
    patch.setattr("platform.machine", lambda: processor)
    trace_signals.stored(SimpleNamespace(device=torch.device("cpu")), key, traces, heads, uniform=uniform)


def make_explorer(folder, patch, collections, weights, script, torch):
    patch.setattr(explorer, "BOOK", {"smoke": collections})
    patch.setattr(models, "folder", lambda name: write(folder, File("model/weights", weights)).parent)
    patch.setattr(explorer, "STATIC", write(folder, File("static/a.js", script)).parent)
    patch.setattr("torch.__version__", torch)
    explorer.for_book("smoke")


def make_states(folder, patch, key, examples, processor, newer=""):
    patch.setattr(trace_signals, "version", lambda library: "2.1" if library == newer else "2.0")
    patch.setattr("platform.machine", lambda: processor)
    teacher_states.stored(SimpleNamespace(device=torch.device("cpu")), key, examples)


def make_mimic(folder, patch, notes, diagnoses, space, on_missing="drop"):
    write(folder, [notes, diagnoses])
    patch.setattr("ctd.data.readers.icd10cm.label_space", lambda: space)
    mimic.load(folder, on_missing)


def make_xmc(folder, patch, files, name="LF-Tiny", **options):
    write(folder / name, files)
    xmc.load(folder / name, **options)


def make_task(name):
    def make(folder, patch, sources, check_tags, **options):
        patch.setitem(readers.SHIPPED, "sources", write(folder, File("sources.json", sources)))
        patch.setitem(readers.SHIPPED, "check_tags", write(folder, File("check_tags.csv", check_tags)))
        readers.load(name, **{option: write(folder, value) for option, value in options.items()})

    return make


def make_organism(folder, patch, recipe, space, base, bfloat16):
    write(folder, File(f"{recipe.base}/model.safetensors", base))
    patch.setattr("ctd.data.readers.organism.label_space", lambda: space)
    patch.setenv("CTD_DTYPE", "bfloat16" if bfloat16 else "float32")
    organism.build(recipe, folder / "grown")


def make_teacher(folder, patch, recipe, train, validation, space, encoder, model):
    splits = DatasetDict(train=train, validation=validation, test=documents([0]))
    task = Task(splits, space, Card("Tiny", "none", "made up", "by hand"))
    patch.setattr(readers, "load", lambda name: task)
    patch.setattr("ctd.reasoning.teachers.with_topics", lambda task, encoder, n_clusters: (task, None))
    patch.setattr(encoders, "load", lambda name: encoder)
    patch.setattr(models, "load", lambda name, dtype: SimpleNamespace(key=model))
    teacher.build(recipe, folder / "taught")


def task_case(name: str, arguments: dict[str, Any], **options: Any) -> Case:
    """The case of a dataset whose reader has these options, here given other values."""
    changes = {"options": each(**options), "sources": each(sources="[]"), "check_tags": each(check_tags="D1")}
    return Case("ctd.data.readers.once", make_task(name), {"sources": "{}", "check_tags": ""} | arguments, changes)


ENCODED = {"encoder": HashEncoder(2), "texts": TEXTS, "processor": "x86_64"}
NEWER = [{"newer": library} for library in LIBRARIES]
HEADS = {Phase.SHORTLIST: [Head(0, 1), Head(1, 1)], Phase.REFINE: [Head(1, 2)]}
MOVED = replace(PASSAGES[0], anchors=(*PASSAGES[0].anchors, 1))
XMC = {name: File(f"{name}.json") for name in ("lbl", "trn", "tst")}
PLANTED = organism_recipe.RECIPES["organism-planted"]
CASES = {
    "vectors": Case(
        "ctd.retrieval.encoders.once",
        make_vectors,
        ENCODED,
        {
            "encoder": each(encoder=HashEncoder(3)),
            "texts": [{"texts": OTHER_TEXTS}, {"texts": TEXTS[:1]}],
            "versions": NEWER,
            "processor": each(processor="arm64"),
        },
    ),
    "label indexes": Case(
        "ctd.retrieval.index.once",
        make_index,
        ENCODED | {"kind": "ivfpq", "seed": 0, "faiss": "1.0"},
        {
            "vectors": [*each(encoder=HashEncoder(3), texts=OTHER_TEXTS, processor="arm64"), *NEWER],
            "kind": each(kind="hnsw"),
            "seed": each(seed=1),
            "faiss": each(faiss="1.1"),
        },
    ),
    "grammars": Case(
        "ctd.reasoning.grammar.once",
        make_grammar,
        {"texts": TEXTS, "tokenizer": byte_level(["- Liver\n- Heart\n"] * 3, 270)},
        {
            "labels": each(texts=OTHER_TEXTS),
            "tokenizer": each(tokenizer=byte_level(["- Calcium\n- Blood\n"] * 3, 270)),
        },
    ),
    "unpacked models": Case(
        "ctd.reasoning.weights.once",
        make_unpacked,
        {"weights": "GGUF", "transformers": "5.0"},
        {"weights_sha256": each(weights="other"), "transformers": each(transformers="5.1")},
    ),
    "models unpacked from parts": Case(
        "ctd.reasoning.weight_parts.once",
        make_unpacked_parts,
        {"sha256": "0", "transformers": "5.0"},
        {"sha256": each(sha256="1"), "transformers": each(transformers="5.1")},
    ),
    "self-checks": Case(
        "ctd.mechanism.self_check.once",
        make_self_check,
        {"key": "weights", "versions": {"torch": "2.0", "transformers": "5.0"}},
        {
            "model": each(key="other"),
            "torch": each(versions={"torch": "2.1", "transformers": "5.0"}),
            "transformers": each(versions={"torch": "2.0", "transformers": "5.1"}),
        },
    ),
    "signals": Case(
        "ctd.distill.trace_signals.once",
        make_signals,
        {"key": "weights", "traces": PASSAGES, "heads": HEADS, "processor": "x86_64"},
        {
            "model": each(key="other"),
            "annotated_traces": [{"traces": PASSAGES[1:]}, {"traces": [MOVED, *PASSAGES[1:]]}],
            "heads": [
                {"heads": HEADS | {Phase.SHORTLIST: [Head(1, 1), Head(0, 1)]}},
                {"heads": HEADS | {Phase.REFINE: [Head(1, 3)]}},
            ],
            "uniform": each(uniform=True),
            "computed_by": [{"processor": "arm64"}, {"newer": "torch"}, {"newer": "transformers"}],
        },
    ),
    "teacher_states": Case(
        "ctd.distill.teacher_states.once",
        make_states,
        {"key": "weights", "examples": [Example([5, 6, 7], 1), Example([5, 6], 1)], "processor": "x86_64"},
        {
            "model": each(key="other"),
            "examples": [
                {"examples": [Example([5, 6, 7], 1), Example([5, 7], 1)]},
                {"examples": [Example([5, 6, 7], 2), Example([5, 6], 1)]},
                {"examples": [Example([5, 6, 7], 1, ((1, 2),)), Example([5, 6], 1)]},
            ],
            "computed_by": [{"processor": "arm64"}, {"newer": "torch"}, {"newer": "transformers"}],
        },
    ),
    "mimic": Case(
        "ctd.data.readers.streams.once",
        make_mimic,
        {"notes": File("discharge.csv"), "diagnoses": File("diagnoses_icd.csv"), "space": TINY},
        {
            "names": each(notes=File("discharge.csv.gz"), diagnoses=File("diagnoses_icd.csv.gz")),
            "notes": each(notes=File("discharge.csv", "other")),
            "diagnoses": each(diagnoses=File("diagnoses_icd.csv", "other")),
            "space": each(space=TREE),
            "on_missing": each(on_missing="raise"),
        },
    ),
    "xmc": Case(
        "ctd.data.readers.streams.once",
        make_xmc,
        {"files": [*XMC.values()]},
        {
            "names": [{"name": "LF-Other"}, {"files": [File("lbl.json.gz"), File("trn.json"), File("tst.json")]}],
            "files": [
                *({"files": [*(XMC | {name: File(f"{name}.json", "other")}).values()]} for name in XMC),
                {"files": [*XMC.values(), File("filter_labels_test.txt")]},
            ],
            "title_only": each(title_only=True),
            "on_empty": each(on_empty="drop"),
            "validation": each(validation=0.1),
        },
    ),
    "tasks of mesh": task_case(
        "mesh",
        {"files": [File("a.xml")]},
        files=[File("a.xml", "other")],
        mtrees=File("mtrees.bin", "other"),
        descriptors=True,
    ),
    "tasks of setmm": task_case("setmm", {"path": File("set.mm")}, path=File("set.mm", "other")),
    "tasks of vignettes": task_case(
        "vignettes",
        {},
        n_documents=20,
        seed=1,
        closed=True,
        labels_per_document=(1, 2),
        n_ruled_out=2,
        n_distractors=2,
    ),
    "tasks of organism": task_case("organism", {}, n_documents=20, seed=1, n_topics=2),
    "tasks of organism_hard": task_case("organism-hard", {}, n_documents=20, seed=1, n_topics=2),
    "tasks of records": task_case(
        "records",
        {"source": File("set.jsonl")},
        source=File("set.jsonl", "other"),
        text="abstract",
        labels="codes",
        uid="id",
        on_empty="drop",
        space=TINY,
    ),
    "explorers": Case(
        "ctd.book.explorer.make.once",
        make_explorer,
        {"collections": (Collection(),), "weights": "1", "script": "1", "torch": "2.0"},
        {
            "collections": each(collections=(Collection(seed=1),)),
            "models": each(weights="2"),
            "static": each(script="2"),
            "torch": each(torch="2.1"),
        },
    ),
    "training of organisms": Case(
        "ctd.recipes.organism.cache_dir",
        make_organism,
        {"recipe": PLANTED, "space": TINY, "base": "weights", "bfloat16": False},
        {
            "recipe": each(recipe=replace(PLANTED, seed=1)),
            "label_space": each(space=TREE),
            "base": each(base="other"),
            "mixed": each(bfloat16=True),
        },
    ),
    "training of the teacher": Case(
        "ctd.recipes.teacher.cache_dir",
        make_teacher,
        {
            "recipe": teacher.Recipe(),
            "train": documents([0]),
            "validation": documents([0]),
            "space": TINY,
            "encoder": HashEncoder(2),
            "model": "weights",
        },
        {
            "recipe": each(recipe=teacher.Recipe(seed=1)),
            "documents": each(train=documents([1]), validation=documents([1])),
            "label_space": each(space=TREE),
            "encoder": each(encoder=HashEncoder(3)),
            "model": each(model="other"),
        },
    ),
}


def asked_path(case: Case, folder: Path, change: dict[str, Any]) -> tuple[Any, ...]:
    """The path that the maker asks for, a change of its arguments made."""

    def stop(*path: Any) -> None:
        raise Asked(*path)

    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case.place, stop)
        with pytest.raises(Asked) as raised:
            case.make(folder, patch, **case.arguments | change)
    shutil.rmtree(folder)
    return raised.value.args


def test_each_input_of_every_maker_is_changed_in_a_case():
    for module in pkgutil.walk_packages(ctd.__path__, "ctd."):
        importlib.import_module(module.name)
    inputs = {name: set(maker.inputs) for name, maker in Maker.ALL.items() if maker.module.startswith("ctd.")}
    assert {name: inputs[name] for name in inputs if name not in ELSEWHERE} == {
        name: set(case.changes) for name, case in CASES.items()
    }


@pytest.mark.parametrize(
    ("name", "input", "number"),
    [
        (name, input, number)
        for name, case in CASES.items()
        for input, changes in case.changes.items()
        for number in range(len(changes))
    ],
)
def test_a_changed_input_leads_to_another_path(name, input, number, tmp_path, own_cache):
    case, folder = CASES[name], tmp_path / "files"
    path = asked_path(case, folder, {})
    assert asked_path(case, folder, {}) == path
    assert asked_path(case, folder, case.changes[input][number]) != path
