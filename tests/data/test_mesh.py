"""PubMed/MeSH: the reader on a made-up file of the published layout, and the published split."""

import gzip

import numpy as np
import pandas as pd
import pytest

from ctd.cache import DATA
from ctd.data.readers import load, mesh
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
    (read,) = mesh.read_citations(write(citation(), name="pubmed.xml.gz"))
    assert read == mesh.Citation("1", "On calcium.", "To see. It was.", ["D002118Q000378", "D002118Q000097"])


def test_other_languages_and_bare_citations_are_left_out(write):
    kept = mesh.read_citations(
        write(citation("1", language="ger"), citation("2", abstract=""), citation("3", headings=()), citation("4"))
    )
    assert [c.pmid for c in kept] == ["4"]


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
    }


def test_damaged_files_are_named(write, tmp_path):
    whole = write(*[citation(str(i)) for i in range(500)], name="whole.xml.gz").read_bytes()
    (tmp_path / "cut.xml.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.xml").write_text("<PubmedArticleSet><PubmedArticle></PubmedArticleSet>")
    (tmp_path / "other.xml").write_text("<html></html>")
    (tmp_path / "plain.xml.gz").write_text("<PubmedArticleSet/>")
    for name, message in [
        ("cut.xml.gz", r"cut.xml.gz is a truncated or damaged gzip file \(after \d+ citations\)"),
        ("plain.xml.gz", "truncated or damaged gzip"),
        ("broken.xml", "broken.xml is not well-formed PubMed XML"),
        ("other.xml", "other.xml holds no PubmedArticle"),
    ]:
        with pytest.raises(ValueError, match=message):
            list(mesh.read_citations(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        list(mesh.read_citations(tmp_path / "absent.xml"))


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
    made = [(uid, split) for split, part in task.documents.items() for uid in part["uid"]]
    assert sorted(made) == sorted(published.itertuples(index=False, name=None))
    assert len({uid for uid, _ in made}) == len(made) > 12_000
    gold = task.gold("test")
    assert gold[:, task.unscored].nnz == 0
    assert task.gold("test", scored=False)[:, task.unscored].nnz > 1_000


def test_the_split_rule_gives_about_its_shares():
    splits = [split_by_hash(str(uid)) for uid in range(20_000)]
    shares = [splits.count(name) / len(splits) for name in ("train", "validation", "test")]
    assert np.allclose(shares, (0.8, 0.08, 0.12), atol=0.01)


def test_a_label_out_of_range_is_refused():
    with pytest.raises(ValueError, match="document 1 has label 9; labels run from 0 to 8"):
        labels_matrix([[0], [1, 9]], 9)
    with pytest.raises(ValueError, match="dataset must be one of mesh, setmm"):
        load("wikipedia")
