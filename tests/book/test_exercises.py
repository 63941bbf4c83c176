"""Every chapter ends with three exercises whose commands can be given."""

import itertools
import shlex

import pytest

from ctd.book import exercises, notebook_files
from ctd.book.notebook_files import find_notebook, parameters_of
from ctd.book.parameters import check_all, parse_assignments

ALL = [(stem, exercise) for stem, each in exercises.exercises().items() for exercise in each]


def test_every_chapter_has_three():
    assert {stem: len(each) for stem, each in exercises.exercises().items()} == {
        path.stem: 3 for path in notebook_files.notebooks()
    }


@pytest.mark.parametrize(("stem", "exercise"), ALL, ids=[exercise.command for _, exercise in ALL])
def test_a_command_changes_parameters_that_its_notebook_has(stem, exercise):
    words = shlex.split(exercise.command)
    assert words[:2] == ["ctd", "run"]
    notebook = find_notebook(words[2])
    assert stem in (notebook.stem, "17_claims"), "the ledger's reader runs another chapter"
    flags = dict(itertools.pairwise(words[3:]))
    assert set(words[3::2]) <= {"-p", "--profile"}
    notebook_files.profile_values(notebook, flags.get("--profile", "default"))
    given = parse_assignments(
        parameters_of(notebook), [word for flag, word in itertools.pairwise(words) if flag == "-p"]
    )
    assert given
    assert check_all(parameters_of(notebook), given, exercise.command)[1] == []
    profile = notebook_files.profile_values(notebook, flags.get("--profile", "default"))
    for name, value in given.items():
        assert value != profile.get(name, parameters_of(notebook)[name].default), "nothing changes"
    assert exercise.task[-1] in ".?"
    assert exercise.expect.endswith(".")


def test_a_section_folds_each_solution():
    section = exercises.section("01_retrieval_shortlists")
    assert section.startswith("## Exercises")
    assert section.count("{dropdown} What to expect") == 3
    assert section.count("```sh") == 3
    assert exercises.section("99_none") == ""
