"""Words of the glossary are linked once, and never inside code, headings or links."""

import re

from nbformat import v4

from ctd.book import terms
from ctd.cache import ROOT


def linked(*sources):
    copy = v4.new_notebook(cells=[v4.new_markdown_cell(source) for source in sources])
    terms.link_terms(copy)
    return [cell.source for cell in copy.cells]


def test_the_first_use_is_linked_in_its_own_form():
    first, second = linked("Two arms learn.", "An arm, and near misses.")
    assert first == "Two {term}`arms <arm>` learn."
    assert second == "An arm, and {term}`near misses <near miss>`."


def test_what_is_no_prose_is_left_alone():
    untouched = [
        "# An arm", "`cot`", "$LAS$", "[an arm](a.html)", "{ref}`arm <a>`", "```sh\narm\n```", "| arm |", "(arm)=",
        '<img alt="arm">', ":alt: arm", "charms",
    ]  # fmt: skip
    assert linked(*untouched) == untouched


def test_every_entry_is_in_the_glossary():
    glossary = (ROOT / "book" / "glossary.md").read_text()
    assert set(terms.LINKED.values()) <= set(re.findall(r"^(\w.*)$", glossary, re.MULTILINE))
