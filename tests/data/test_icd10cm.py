"""The ICD-10-CM list as a label space, checked against the list's own XML read another way."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest

from ctd import cache
from ctd.data.label_space import LabelSpace
from ctd.data.readers import icd10cm
from ctd.recipes import natural_marks


@pytest.fixture(scope="module")
def space() -> LabelSpace:
    return icd10cm.label_space()


@pytest.fixture(scope="module")
def xml() -> ET.Element:
    return ET.parse(cache.packaged_file("icd10cm_tabular")).getroot()


def kind(space: LabelSpace, row: str, column: str) -> int:
    return space.exclusions[space.lookup[row], space.lookup[column]]


def named(note: str) -> set[str]:
    counts: Counter[str] = Counter()
    return {icd10cm.label_space().ids[label] for label in icd10cm._named(note, counts)}


def test_labels_are_exactly_the_codes_that_no_other_code_extends(space):
    listed = (files("simple_icd_10_cm") / "data" / "code-list-April-2026.txt").read_text().split("\n")
    codes = sorted({line.split(" ")[0] for line in listed if re.fullmatch(r"[A-Z]\w{2,6}", line.split(" ")[0])})
    # In sorted order a code's extensions follow it at once.
    billable = {a for a, b in zip(codes, [*codes[1:], ""], strict=True) if not b.startswith(a)}
    assert {id.replace(".", "") for id in space.ids[: len(space)]} == billable
    assert len(space) == 74_719


def test_every_category_of_the_xml_is_in_the_tree_with_its_description_and_parent(space, xml):
    for chapter in xml.iter("chapter"):
        for section in chapter.iter("section"):
            for diagnosis in section.findall("diag"):
                for below in diagnosis.iter("diag"):
                    node = space.lookup[below.findtext("name")]
                    assert space.texts[node] == below.findtext("desc")
                    for child in below.findall("diag"):
                        assert space.parents[space.lookup[child.findtext("name")]] == node
                top = space.ancestor(np.array([space.lookup[diagnosis.findtext("name")]]), 0)[0]
                assert space.ids[top] == f"chapter-{chapter.findtext('name')}"


def test_every_label_has_a_chapter_and_a_block_and_every_inner_node_has_labels(space):
    labels = np.arange(len(space))
    assert set(np.unique(space.ancestor(labels, 0))) == set(np.flatnonzero(space.depth == 0))
    assert space.depth[labels].min() == 2
    has_children = np.zeros(len(space.ids), bool)
    has_children[space.parents[space.parents >= 0]] = True
    assert not has_children[labels].any()
    assert has_children[len(space) :].all()


def test_a_block_and_the_category_of_the_same_name_are_two_nodes(space):
    block, category = space.lookup["B99-B99"], space.lookup["B99"]
    assert space.parents[category] == block
    assert space.ids[space.parents[block]] == "chapter-1"
    assert space.texts[category] == "Other and unspecified infectious diseases"
    assert space.texts[space.lookup["A00-A09"]] == "Intestinal infectious diseases"


def test_seventh_characters_are_spelled_out_and_glosses_are_cut(space):
    text = {id: space.texts[space.lookup[id]] for id in ("S82.034B", "W08.XXXS", "H34.8112", "D57.211", "S13.151A")}
    assert text["S82.034B"].endswith("right patella, initial encounter for open fracture type I or II")
    assert text["W08.XXXS"] == "Fall from other furniture, sequela"
    assert text["H34.8112"] == "Central retinal vein occlusion, right eye, stable"
    assert "Hb-C" in text["D57.211"]
    assert text["S13.151A"].startswith("Dislocation of C4/C5 cervical vertebrae")
    assert len(set(space.texts[: len(space)])) == len(space)
    assert not any(re.search(r"[\t\n]|  ", text) for text in space.texts)


def test_inclusion_terms_are_all_of_the_xml(space, xml):
    expected = Counter(note.text for terms in xml.iter("inclusionTerm") for note in terms)
    terms = icd10cm.inclusion_terms()
    assert Counter(term for node in terms.values() for term in node) == expected
    assert expected.total() == 12_574
    assert "Cardiac asthma" in terms["I50.1"]
    assert set(terms) <= set(space.lookup)


def test_notes_of_a_code_and_of_the_nodes_above_it_exclude(space):
    assert kind(space, "I50.21", "I46.2") == 2  # category I50: cardiac arrest (I46.-)
    assert kind(space, "I50.21", "I50.42") == 1  # subcategory I50.2: combined (I50.4-)
    assert kind(space, "I50.1", "J81.0") == 1  # the code itself
    assert kind(space, "I50.9", "I50.42") == 0
    assert kind(space, "E08.00", "O24.410") == 1  # category E08: gestational diabetes (O24.4-)
    assert kind(space, "J18.9", "J95.851") == 2  # block J09-J18: ventilator associated pneumonia


def test_exclusions_are_kinds_one_and_two_never_of_a_code_itself_and_bounded(space):
    matrix = space.exclusions
    assert set(np.unique(matrix.data)) == {1, 2}
    assert not matrix.diagonal().any()
    assert matrix.has_sorted_indices
    assert matrix.nnz < 3_000_000


def test_the_first_kind_stands_where_notes_of_both_kinds_name_a_code(space):
    def all_named(notes: list[str]) -> set[str]:
        return set().union(*map(named, notes))

    below = [entry for entry in icd10cm._tabular() if entry.depth > 1]
    both = [(e, all_named(e.excludes[1]) & all_named(e.excludes[2])) for e in below if e.excludes[1] and e.excludes[2]]
    overlaps = [(space.ids[e.labels.start], code) for e, codes in both for code in codes]
    assert overlaps
    assert {kind(space, *pair) for pair in overlaps} == {1}


@pytest.mark.parametrize(
    ("note", "some", "none"),
    [
        ("cardiac arrest (I46.-)", {"I46.2", "I46.8", "I46.9"}, {"I47.10"}),
        ("edema (J81.-)", {"J81.0", "J81.1"}, set()),
        ("combined (I50.4-)", {"I50.40", "I50.43"}, {"I50.30"}),
        ("two (I13.0, I13.2)", {"I13.0", "I13.2"}, {"I13.10"}),
        ("range (I95.2-I95.8)", {"I95.2", "I95.3", "I95.81", "I95.89"}, {"I95.1", "I95.9"}),
        ("range (J40.- -J42.-)", {"J40", "J41.0", "J42"}, {"J43.9"}),
        ("whole code with words (G6PD) (D55.0)", set(), {"D55.1"}),
        ("nested words (acute) (I50.21)", {"I50.21"}, {"I50.22"}),
        ("fifth character (B27.- with fifth character 2)", {"B27.02", "B27.92"}, {"B27.01"}),
        ("seventh (S02.0- with 7th character B)", {"S02.0XXB"}, {"S02.0XXA"}),
        ("either (S42.01- with 7th character B or C)", {"S42.011B"}, {"S42.011A", "S42.011D"}),
        ("ends (I69. with final characters -23)", {"I69.023", "I69.323"}, {"I69.021"}),
        ("diabetes (E08-E13 with .41)", {"E08.41", "E11.41"}, {"E11.42"}),
        ("diabetes (E08-E13 with .51-.52)", {"E10.51", "E10.52"}, {"E10.59"}),
        ("drugs (F10-F19, with .27, .97)", {"F10.27", "F13.97"}, {"F10.10"}),
    ],
)
def test_notes_name_the_codes_in_their_parentheses(note, some, none):
    codes = named(note)
    assert some <= codes
    assert not none & codes


def test_what_a_note_does_not_say_clearly_is_counted_not_guessed(space):
    counts: Counter[str] = Counter()
    for note in (
        "see injury by body region",
        "see I50.1",
        "poisoning (T36-T65 with fifth or sixth character 1-4)",
        "gone (I99.77)",
        "injury of foot (S90-S99)",
    ):
        assert not len(icd10cm._named(note, counts))
    assert counts["notes without a code in parentheses"] == 2
    assert counts["references with a condition not understood"] == 1
    assert counts["references to a code that the list does not have"] == 1
    assert counts["references to more than 50 codes"] == 1
    assert counts["references"] == 0


def test_note_counts_cover_every_exclusion_note_of_the_xml(xml):
    _, counts = icd10cm._exclusions()
    # The twelve umbrella blocks, which hold no codes of their own, are left out with their notes.
    held = [section for section in xml.iter("section") if section.find("diag") is not None]
    notes = [
        note
        for part in (*held, *xml.iter("diag"))
        for e in ("excludes1", "excludes2")
        for note in part.iterfind(f"{e}/note")
    ]
    of_chapters = [n for c in xml.iter("chapter") for e in ("excludes1", "excludes2") for n in c.iterfind(f"{e}/note")]
    assert counts["notes of a chapter, not read"] == len(of_chapters)
    assert counts["notes"] == len(notes) + len(of_chapters)
    unread = counts["notes without a code in parentheses"] + counts["references with a condition not understood"]
    assert unread < 0.03 * counts["notes"]


def test_the_heart_failure_set_is_i50_and_what_notes_tie_to_it(space):
    heart = icd10cm.heart_failure_set()
    labels = set(heart.ids[: len(heart)])
    assert len(labels) == 51
    assert {id for id in space.ids[: len(space)] if id.startswith("I50")} <= labels
    assert {"I46.9", "P29.0", "J81.0", "E87.70"} <= labels  # its exclusion notes
    assert {"I11.0", "I13.2", "I97.131", "I09.81", "O75.4"} <= labels  # its code-first notes
    assert {"I27.81", "J91.8"} <= labels  # notes elsewhere that name I50
    assert not any(id.startswith(("O03", "I21")) for id in labels)
    assert heart.ids[heart.ancestor([heart.lookup["I50.21"]], 1)[0]] == "I30-I5A"
    near = {heart.ids[label] for label in heart.near_misses([heart.lookup["I50.21"]], m=10)}
    assert {"I50.22", "I50.42"} <= near


def test_a_subset_keeps_texts_tree_and_exclusions(space):
    ids = ["J81.0", "I50.1", "I50.42", "I50.21"]
    small = space.subset([space.lookup[id] for id in ids], "small")
    assert sorted(small.ids[: len(small)]) == sorted(ids)
    for id in ids:
        assert small.texts[small.lookup[id]] == space.texts[space.lookup[id]]
        assert small.depth[small.lookup[id]] == space.depth[space.lookup[id]]
        for other in ids:
            assert kind(small, id, other) == kind(space, id, other)
    assert small.ids[small.parents[small.lookup["I50.21"]]] == "I50.2"


def test_the_labels_beside_the_marked_texts_are_the_heart_failure_set():
    heart = icd10cm.heart_failure_set()
    assert natural_marks.read_labels().texts == heart.texts[: len(heart)]


def test_the_space_is_the_same_after_saving_and_loading(space, tmp_path):
    space.save(tmp_path / "icd.parquet")
    again = LabelSpace.load(tmp_path / "icd.parquet")
    assert again.ids == space.ids
    assert again.texts == space.texts
    assert (again.parents == space.parents).all()
    assert (again.exclusions != space.exclusions).nnz == 0


def test_a_missing_package_is_named_with_the_command_that_mends_it(monkeypatch):
    def missing(source: str):
        raise FileNotFoundError(f"package of {source} is not installed; run: pip install")

    monkeypatch.setattr(icd10cm, "packaged_file", missing)
    with pytest.raises(FileNotFoundError, match="icd10cm_tabular is not installed; run: pip install"):
        icd10cm._tabular.__wrapped__()
