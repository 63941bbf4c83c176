"""PubMed/MeSH: the reader on a made-up file of the published layout, and the published split."""

import gzip

import numpy as np
import pandas as pd
import pytest

from ctd.cache import DATA
from ctd.data.readers import load, load_as_asked, mesh
from ctd.data.task import labels_matrix, split_by_hash

CITATION = """<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article>
<Language>{language}</Language><ArticleTitle>On <i>calcium</i>.</ArticleTitle>{abstract}</Article>
<MeshHeadingList>{headings}</MeshHeadingList></MedlineCitation></PubmedArticle>"""
HEADING = '<MeshHeading><DescriptorName UI="{d}"/>{q}</MeshHeading>'
ABSTRACT = '<Abstract><AbstractText Label="AIM">To see.</AbstractText><AbstractText>It was.</AbstractText></Abstract>'


def citation(pmid="1", language="eng", abstract=ABSTRACT, headings=(("D002118", ("Q000378", "Q000097")),)):
    marked = "".join(
        HEADING.format(d=d, q="".join(f'<QualifierName UI="{q}"/>' for q in qualifiers)) for d, qualifiers in headings
    )
    return CITATION.format(pmid=pmid, language=language, abstract=abstract, headings=marked)


@pytest.fixture
def write(tmp_path):
    def write(*citations, name="pubmed.xml"):
        text = f"<PubmedArticleSet>{''.join(citations)}</PubmedArticleSet>"
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def vocabulary():
    return mesh.label_space()


def test_the_vocabulary_is_the_published_size(vocabulary):
    assert len(vocabulary) == 663_973
    assert (vocabulary.parents < 0).sum() == 30_532
    calcium = vocabulary.lookup["D002118"]
    assert vocabulary.texts[calcium] == "Calcium"
    assert vocabulary.texts[vocabulary.lookup["D002118Q000378"]] == "Calcium/metabolism"
    assert vocabulary.parents[vocabulary.lookup["D002118Q000378"]] == calcium


def test_a_citation_is_read_whole(write):
    [(pmid, read)] = mesh.read_records(write(citation(), name="pubmed.xml.gz"))
    assert pmid == "1"
    assert read == mesh.Citation("1", "On calcium.", "To see. It was.", ["D002118Q000378", "D002118Q000097"])


def test_other_languages_and_bare_citations_are_left_out(write):
    records = mesh.read_records(
        write(citation("1", language="ger"), citation("2", abstract=""), citation("3", headings=()), citation("4"))
    )
    assert [pmid for pmid, record in records if isinstance(record, mesh.Citation)] == ["4"]


def test_a_task_counts_what_it_drops_and_the_last_version_wins(write):
    first = write(citation("1"), citation("2", headings=(("D999999999", ()),)), name="a.xml")
    second = write(citation("1", headings=(("D002118", ()), ("D999999999", ()))), name="b.xml.gz")
    task = mesh.load([first, second])
    rows = [row for split in task.documents.values() for row in split]
    assert [row["uid"] for row in rows] == ["1"]
    assert [task.space.texts[label] for label in rows[0]["labels"]] == ["Calcium"]
    assert task.card.dropped == {
        "label occurrences outside the 2026 vocabulary": 2,
        "citations without any label in the vocabulary": 1,
        "older versions of citations that a later file revises": 1,
    }


def test_damaged_files_are_named(write, tmp_path):
    whole = write(*[citation(str(i)) for i in range(500)], name="whole.xml.gz").read_bytes()
    (tmp_path / "cut.xml.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.xml").write_text("<PubmedArticleSet><PubmedArticle></PubmedArticleSet>")
    (tmp_path / "other.xml").write_text("<html></html>")
    (tmp_path / "plain.xml.gz").write_text("<PubmedArticleSet/>")
    (tmp_path / "zip.xml").write_bytes(b"PK\x03\x04and so on")
    for name, message in [
        ("cut.xml.gz", r"cut.xml.gz is a truncated or damaged gzip file \(after \d+ citations\)"),
        ("plain.xml.gz", "plain.xml.gz holds no PubmedArticle and no DeleteCitation"),
        ("zip.xml", "zip.xml is packed as zip, and only gzip is read; unpack it"),
        ("broken.xml", "broken.xml is not well-formed PubMed XML"),
        ("other.xml", "other.xml holds no PubmedArticle"),
    ]:
        with pytest.raises(ValueError, match=message):
            list(mesh.read_records(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        list(mesh.read_records(tmp_path / "absent.xml"))


def test_a_tree_file_puts_descriptors_below_one_another(tmp_path, vocabulary):
    (tmp_path / "mtrees").write_text(
        "Body Regions;A01\nHead;A01.456\nFace;A01.456.505\nEye;A01.456.505.420\nEye;A09.371\nSense Organs;A09\n"
    )
    space = mesh.label_space(tmp_path / "mtrees")
    up = {text: space.texts[space.parents[space.lookup[id]]] for text, id in
          (("Face", "D005145"), ("Eye", "D005123"), ("Head", "D006257"), ("Body Regions", "D001829"))}  # fmt: skip
    assert up == {"Face": "Head", "Eye": "Sense Organs", "Head": "Body Regions", "Body Regions": "Anatomy"}
    (tmp_path / "mtrees").write_text("Body Regions A01\n")
    with pytest.raises(ValueError, match="mtrees, line 1: expected 'Heading;A01.236'"):
        mesh.label_space(tmp_path / "mtrees")


def test_check_tags_are_headings_of_the_vocabulary(vocabulary):
    listed = pd.read_csv(DATA / "check_tags.csv", comment="#")
    assert [vocabulary.texts[vocabulary.lookup[id]] for id in listed["id"]] == listed["heading"].tolist()
    tags = mesh.check_tags(vocabulary)
    assert len(tags) == len(listed) == len(set(tags.tolist()))
    assert vocabulary.lookup["D006801"] in tags


def test_the_published_split_is_the_one_that_the_loader_makes():
    task = load("mesh")
    published = pd.read_csv(DATA / "mesh_split.csv.gz", dtype=str)
    assigned = [(uid, split) for split, part in task.documents.items() for uid in part["uid"]]
    assert sorted(assigned) == sorted(published.itertuples(index=False, name=None))
    assert len({uid for uid, _ in assigned}) == len(assigned) > 12_000
    gold = task.gold("test")
    assert gold[:, task.unscored].nnz == 0
    assert task.gold("test", scored=False)[:, task.unscored].nnz > 1_000


def test_a_heading_counts_as_its_descriptor_where_labels_are_descriptors_alone(vocabulary, write):
    qualified = citation(headings=(("D002118", ("Q000378", "Q000097")), ("D006801", ()), ("D002118", ())))
    task = load("mesh-descriptors", files=[write(qualified, citation("2", headings=(("D999999", ("Q000378",)),)))])
    ((_, part),) = ((split, part) for split, part in task.documents.items() if len(part))
    assert part["uid"] == ["1"]
    assert [task.space.ids[label] for label in part["labels"][0]] == ["D002118", "D006801"]
    assert task.space.n_labels == len(task.space) == 30_532
    assert task.space.parents is None
    assert [vocabulary.texts[vocabulary.lookup[id]] for id in task.space.ids] == task.space.texts
    assert [task.space.ids[label] for label in task.unscored] == [
        vocabulary.ids[label] for label in mesh.check_tags(vocabulary)
    ]


def test_the_documents_of_the_descriptors_are_those_of_the_headings():
    headings, descriptors = load("mesh"), load("mesh-descriptors")
    for split, part in headings.documents.items():
        other = descriptors.documents[split]
        at = dict(zip(other["uid"], other["labels"], strict=True))
        for uid, labels in zip(part["uid"], part["labels"], strict=True):
            named = {mesh.descriptor_of(headings.space.ids[label]) for label in labels}
            assert named <= {descriptors.space.ids[label] for label in at[uid]}


def test_the_split_rule_gives_about_its_shares():
    splits = [split_by_hash(str(uid)) for uid in range(20_000)]
    shares = [splits.count(name) / len(splits) for name in ("train", "validation", "test")]
    assert np.allclose(shares, (0.8, 0.08, 0.12), atol=0.01)


def test_a_label_out_of_range_is_refused():
    with pytest.raises(ValueError, match="document 1 has label 9; labels run from 0 to 8"):
        labels_matrix([[0], [1, 9]], 9)
    with pytest.raises(ValueError, match="dataset must be one of mesh, mesh-descriptors, setmm"):
        load("wikipedia")


DELETED = "<DeleteCitation><PMID>{}</PMID></DeleteCitation>"


def texts(task):
    return {row["uid"]: row["text"] for part in task.documents.values() for row in part}


def test_a_later_file_takes_back_deletes_and_revises_citations(write):
    first = write(*map(citation, "123456"), name="a.xml")
    revised = citation("3", abstract="<Abstract><AbstractText>It was not.</AbstractText></Abstract>")
    bare = citation("2", abstract="")
    unknown = citation("4", headings=(("D999999999", ()),))
    german = citation("5", language="ger")
    second = write(bare, revised, unknown, german, DELETED.format("1"), DELETED.format("77"), name="b.xml")
    task = mesh.load([first, second])
    assert texts(task) == {"3": "On calcium. It was not.", "6": "On calcium. To see. It was."}
    assert task.card.dropped == {
        "citations that a later file deletes": 1,
        "citations that a later file leaves without an abstract, a heading or English": 2,
        "older versions of citations that a later file revises": 1,
        "label occurrences outside the 2026 vocabulary": 1,
        "citations without any label in the vocabulary": 1,
    }
    again = texts(mesh.load([second, first]))
    assert again["1"] == again["3"] == "On calcium. To see. It was."  # the order of the files is that of the versions


def test_gzip_is_told_by_content_and_a_citation_without_title_or_number_does_no_harm(write, tmp_path):
    packed = write(citation("1"), name="packed.xml.gz").rename(tmp_path / "packed.xml")
    plain = write(citation("2"), name="plain.xml").rename(tmp_path / "plain.xml.gz")
    untitled = write(citation("3").replace("<ArticleTitle>On <i>calcium</i>.</ArticleTitle>", ""), name="untitled.xml")
    assert sorted(texts(mesh.load([packed, plain, untitled]))) == ["1", "2"]
    assert sorted(texts(load("mesh", files=packed))) == ["1"]
    nameless = write(citation("4").replace('<PMID Version="1">4</PMID>', ""), name="nameless.xml")
    with pytest.raises(ValueError, match=r"nameless.xml: citation 1 has no PMID"):
        mesh.load([nameless])


def test_checksums_beside_the_files_of_a_folder_are_not_read(write, tmp_path):
    (tmp_path / "baseline").mkdir()
    for number in (1, 2):
        name = f"baseline/pubmed26n000{number}.xml.gz"
        write(citation(str(number)), name=name)
        (tmp_path / f"{name}.md5").write_text("MD5(pubmed26n0001.xml.gz)= 0f")
    assert sorted(texts(load_as_asked("mesh", str(tmp_path / "baseline")))) == ["1", "2"]
