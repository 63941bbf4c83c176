"""FAST: the published headings, against a count of the package's own lines."""

import json

import pytest

from ctd.cache import packaged_file
from ctd.data.readers import fast

FEW = ("event", "chronological", "formgenre")


def test_headings_are_those_of_the_files_each_number_once():
    lines = [
        json.loads(line) for facet in FEW for line in packaged_file(f"fast_{facet}").read_text("utf-8").splitlines()
    ]
    space = fast.label_space(FEW)
    assert len(lines) == 5_924 + 685 + 3_925
    assert len(space) == len({line["id"] for line in lines})
    assert space.texts[space.lookup["1411629"]] == "Church history"
    assert space.texts[space.lookup["2072148"]] == "Sabah Earthquake (Malaysia : 2015)"  # not the second: "Ballets"
    assert space.parents is None


def test_an_unknown_facet_is_refused():
    for facets, got in ((["colour"], "colour"), ([], "none")):
        with pytest.raises(ValueError, match=f"facets must be some of topical, geographic, .*, got {got}"):
            fast.label_space(facets)
