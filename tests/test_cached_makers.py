"""Keys of makers as such: what a student's is made of, and that no two makers share a key.

The code that asks for the keys of all other things is called in tests/test_cached_paths.py.
"""

import importlib
import pkgutil

import ctd
from ctd.distill.teach import STUDENTS
from ctd.keys import LENGTH, Maker
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase

DIGESTS = ("0" * LENGTH, "1" * LENGTH)
STUDENT = {
    "teacher": DIGESTS,
    "label_space": DIGESTS,
    "index": DIGESTS,
    "test_documents": DIGESTS,
    "gold": DIGESTS,
    "teacher_answers": DIGESTS,
    "traces": DIGESTS,
    "examples": DIGESTS,
    "annotated_traces": ("0" * LENGTH, None),
    "student": ("", "0" * LENGTH),
    "plan": ({"n_steps": 3}, {"n_steps": 4}),
    "arm": ({"method": "cot", "step_multiplier": 1.0}, {"method": "fkl", "step_multiplier": 1.0}),
    "methods": DIGESTS,
    "computed_by": DIGESTS,
    "planted_heads": ({Phase.SHORTLIST: [Head(0, 1)]}, None),
    "seed": (0, 1),
}


def test_a_students_key_changes_with_each_input():
    assert set(STUDENTS.inputs) == set(STUDENT)
    values = {input: value for input, (value, _) in STUDENT.items()}
    others = [STUDENTS.key(**values | {input: other}) for input, (_, other) in STUDENT.items()]
    assert len({STUDENTS.key(**values), *others}) == len(others) + 1
    assert STUDENTS.key(**values) == STUDENTS.key(**values)


def test_two_makers_of_the_same_inputs_have_different_keys():
    for module in pkgutil.walk_packages(ctd.__path__, "ctd."):
        importlib.import_module(module.name)
    keys = [maker.key(**dict.fromkeys(maker.inputs, 0)) for maker in Maker.ALL.values()]
    assert len(set(keys)) == len(keys)
