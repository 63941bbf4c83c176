"""The page of related work: every system once, every registered method beside its source."""

import re
from collections import Counter

from bs4 import BeautifulSoup

from ctd.book import related_work
from ctd.book.related_work import System
from ctd.distill.comparison import RETRIEVAL
from ctd.distill.methods import METHODS, Method
from ctd.distill.retrieval_arm import SOURCE


def run_by(rows):
    """The names of methods that stand in the column of this book."""
    cells = [row[related_work.COLUMNS.index("in this book")] for row in rows]
    return [name for cell in cells for name in re.findall("<code>(.*?)</code>", cell)]


def test_all_systems_are_there_once_with_the_numbers_of_each_kind():
    listed = related_work.systems()
    assert Counter(system.kind for system in listed) == {
        "arm": 35, "curation": 10, "inference": 6, "analysis": 8, "related work": 32,
    }  # fmt: skip
    assert len({system.system for system in listed}) == len(listed) == 91
    numbers = [system.arxiv for system in listed if system.arxiv]
    assert len(set(numbers)) == len(numbers)
    assert all(re.fullmatch(r"\d{4}\.\d{5}", number) for number in numbers)


def test_every_registered_method_and_analysis_stands_beside_its_source():
    rows = related_work.related_work()
    analyses = {
        "boundary": "2410.05695",
        "calibration": "2504.06564",
        "diversity": "2604.16027",
        "hacking": "2502.02671",
    }
    assert sorted(run_by(rows)) == sorted([*METHODS, *analyses, RETRIEVAL])
    for row in rows:
        for name in run_by([row]):
            source = METHODS[name].source if name in METHODS else SOURCE
            number = analyses.get(name) or related_work.number_of(source)
            assert number in row[1]


def test_what_is_not_run_says_what_it_would_take():
    for system, row in zip(related_work.systems(), related_work.related_work(), strict=False):
        assert run_by([row]) or system.needs, system.system


def test_a_new_method_shows_by_itself():
    systems = [System("DDK", "2407.16154", "yes", "paper", "arm", "Draws documents.", "Needs rounds.")]
    methods = {
        "ddk": Method(source="DDK, arXiv:2407.16154"),
        "other": Method(source="Somebody (2026), arXiv:2601.00001"),
    }
    rows = related_work.related_work(systems, methods)
    assert [run_by([row]) for row in rows] == [["ddk"], ["other"]]
    assert rows[1][0] == "Somebody (2026)"
    assert run_by(related_work.related_work(systems, {})) == []


def test_a_number_that_was_not_checked_is_marked_and_not_linked():
    page = BeautifulSoup(related_work.page_table(), "html.parser")
    for system, row in zip(related_work.systems(), page.tbody.find_all("tr"), strict=False):
        cell = row.find_all("td")[1]
        assert bool(cell.a) == (system.id_checked == "yes")
        assert ("unchecked" in cell.text) == bool(system.arxiv and not system.id_checked)
    filters = [int(column) for column in page.table["data-filters"].split()]
    assert [page.find_all("th")[column].text for column in filters] == list(related_work.FILTERED)
