"""Every cached thing has a key that sees each of its inputs.

A new `ctd.keys.Maker` needs a row in `SAMPLES`: for each input a small value and another one, of the kind that the
maker's module passes.
"""

import importlib
import pkgutil

import numpy as np
import pytest

import ctd
from ctd.cache import DATA
from ctd.data.label_space import LabelSpace
from ctd.keys import LENGTH, Maker
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.recipes import organism_recipe, teacher
from tests.conftest import HashEncoder

DIGESTS = ("0" * LENGTH, "1" * LENGTH)
FILES = (DATA / "sources.json", DATA / "check_tags.csv")  # two files that differ
TINY = LabelSpace("tiny", ["a", "b"], ["Liver", "Heart"], 2)
TREE = LabelSpace("tiny", ["a", "b"], ["Liver", "Heart"], 2, np.array([-1, 0], np.int32))

TASK = {
    "options": ({"path": ("set.mm", FILES[0]), "seed": 0}, {"path": ("set.mm", FILES[1]), "seed": 0}),
    "sources": FILES,
    "check_tags": FILES,
}
RECIPES = (organism_recipe.RECIPES["organism"], organism_recipe.RECIPES["organism-planted"])
SAMPLES = {
    "training of organisms": {
        "recipe": RECIPES,
        "label_space": (TINY, TREE),
        "base": (None, FILES[0]),
        "mixed": (True, False),
    },
    "training of the teacher": {
        "recipe": (teacher.Recipe(), teacher.Recipe(seed=1)),
        "documents": ({"train": ["a"]}, {"train": ["b"]}),
        "label_space": (TINY, TREE),
        "encoder": (HashEncoder(2), HashEncoder(3)),
        "model": ("0" * LENGTH, "1" * LENGTH),
    },
    "grammars": {"labels": (["Liver", "Heart"], ["Heart", "Liver"]), "tokenizer": ("{}", "[]")},
    "unpacked models": {"weights_sha256": ("0" * 64, "1" * 64), "transformers": ("5.0", "5.1")},
    **{f"tasks of {module}": TASK for module in ("mesh", "setmm", "vignettes", "organism", "records")},
    "mimic": {
        "names": (["discharge.csv", "diagnoses_icd.csv"], ["discharge.csv.gz", "diagnoses_icd.csv"]),
        "notes": FILES,
        "diagnoses": FILES,
        "space": (TINY, TREE),
        "on_missing": ("drop", "raise"),
    },
    "xmc": {
        "names": (["set", "lbl.json"], ["other", "lbl.json"]),
        "files": ({"lbl": FILES[0]}, {"lbl": FILES[1]}),
        "title_only": (True, False),
        "on_empty": ("error", "drop"),
        "validation": (0.05, 0.1),
    },
    "vectors": {
        "encoder": (HashEncoder(2), HashEncoder(3)),
        "texts": (["Liver", "Heart"], ["Heart", "Liver"]),
        "versions": (["2.0"], ["2.1"]),
        "processor": ("x86_64", "arm64"),
    },
    "label indexes": {
        "vectors": DIGESTS,
        "kind": ("hnsw", "ivfpq"),
        "seed": (0, 1),
        "faiss": ("1.0", "1.1"),
    },
    "signals": {
        "model": ("0" * LENGTH, "1" * LENGTH),
        "annotated_traces": ("0" * LENGTH, "1" * LENGTH),
        "heads": ({Phase.SHORTLIST: [Head(0, 1)]}, {Phase.SHORTLIST: [Head(1, 0)]}),
        "computed_by": (["2.0", "5.0", "x86_64"], ["2.1", "5.0", "x86_64"]),
    },
    "students": {
        "teacher": ("0" * LENGTH, "1" * LENGTH),
        "label_space": ("0" * LENGTH, "1" * LENGTH),
        "index": ("0" * LENGTH, "1" * LENGTH),
        "test_documents": ("0" * LENGTH, "1" * LENGTH),
        "gold": ("0" * LENGTH, "1" * LENGTH),
        "teacher_answers": ("0" * LENGTH, "1" * LENGTH),
        "traces": ("0" * LENGTH, "1" * LENGTH),
        "examples": ("0" * LENGTH, "1" * LENGTH),
        "annotated_traces": ("0" * LENGTH, None),
        "student": ("", "0" * LENGTH),
        "plan": ({"n_steps": 3}, {"n_steps": 4}),
        "arm": ({"method": "cot", "step_multiplier": 1.0}, {"method": "fkl", "step_multiplier": 1.0}),
        "methods": DIGESTS,
        "computed_by": DIGESTS,
        "planted_heads": ({Phase.SHORTLIST: [Head(0, 1)]}, None),
        "seed": (0, 1),
    },
}


def makers():
    """All makers of the package, by name."""
    for module in pkgutil.walk_packages(ctd.__path__, "ctd."):
        importlib.import_module(module.name)
    return Maker.ALL


def test_every_maker_has_samples_of_each_input_and_no_others():
    assert {name: set(maker.inputs) for name, maker in makers().items()} == {
        name: set(inputs) for name, inputs in SAMPLES.items()
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_a_key_changes_with_each_input(name):
    maker, samples = makers()[name], SAMPLES[name]
    values = {input: value for input, (value, _) in samples.items()}
    keys = [maker.key(**values), *(maker.key(**values | {input: other}) for input, (_, other) in samples.items())]
    assert len(set(keys)) == len(keys)
    assert maker.key(**values) == keys[0]


def test_two_makers_of_the_same_inputs_have_different_keys():
    keys = [maker.key(**dict.fromkeys(maker.inputs, 0)) for maker in makers().values()]
    assert len(set(keys)) == len(keys)
