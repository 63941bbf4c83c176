"""Premise selection in set.mm: from a theorem to the axioms, definitions and theorems that its proof uses.

Notes: labels are the assertions of typecode `|-`, in the order of the file. A proof can only use what stands before it.
Splits therefore go by position, and neither a theorem's own label nor any later one may be predicted for it.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten

import numpy as np
import typer
from jaxtyping import Int
from scipy.sparse import csr_matrix

from ctd.cache import DATA, atomic, cache_dir
from ctd.data.label_space import LabelSpace
from ctd.data.readers.metamath import HEADING, LEVELS, Database, parse
from ctd.data.readers.metamath_statements import check_source as check_source
from ctd.data.readers.metamath_statements import read, statements
from ctd.data.task import SPLITS, Card, Task, splits_of

DEBIAN = Path("/usr/share/metamath/databases/set.mm")
PACKAGE = "metamath-databases"
PATIENCE = 120.0  # seconds for the download, and for unpacking it
SHARES = (0.8, 0.1)  # of the documents, train and validation; the rest is test
LONGEST = 1000  # characters of a description
FIRST_LEFT_OUT = "ZF Set Theory - add the Axiom of Replacement"  # the heading at which the slice ends

CREDIT = re.compile(
    r"\((?:(?:[^()]|\([^()]*\))*\d-[A-Z][a-z]{2}-\d{4}[.,]?"
    r"|(?:Proof modification|New usage) is discouraged\.?) ?\)"
)
MARKER = re.compile(r"\$\( (?:Begin|End) \$\[.*?\$\] \$\)\s*")  # where set.mm may be split into files
TAG = re.compile(r"</?[A-Z]+\b[^<>]*>")
REFERENCE = re.compile(r"(?<!~)~ ?(?:https?:\S+|[A-Za-z0-9._-]+)")


def slice_path() -> Path:
    """The vendored slice: the first parts of set.mm, made by `write_slice`."""
    return DATA / "setmm_slice.mm.gz"


def find() -> Path:
    """The set.mm to read: `$CTD_SETMM`, else Debian's, installed or fetched into the cache, else the vendored slice.

    Raises FileNotFoundError when `$CTD_SETMM` names no file.
    """
    if named := os.environ.get("CTD_SETMM"):
        if not Path(named).is_file():
            raise FileNotFoundError(f"CTD_SETMM names {named}, which is not a file: mend it, or unset it")
        return Path(named)
    return DEBIAN if DEBIAN.is_file() else _fetch() or slice_path()


@cache
def _fetch() -> Path | None:
    """Debian's set.mm in the cache, downloaded once without root; None where that cannot be done."""
    target = cache_dir("setmm") / "set.mm"
    if target.is_file():
        return target
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    try:
        with TemporaryDirectory(dir=target.parent) as name, atomic(target) as scratch:
            folder = Path(name)
            run = partial(
                subprocess.run,
                cwd=folder,
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
            )
            run(["apt-get", "-qq", "-o", "Acquire::Retries=0", "download", PACKAGE])
            run(["dpkg-deb", "-x", *folder.glob("*.deb"), "."])
            (folder / DEBIAN.relative_to("/")).rename(scratch)
    except (OSError, subprocess.SubprocessError):
        return None
    return target


def describe(comment: str) -> str:
    """A comment as prose, without credits and dates, `~ label` references, math backquotes and HTML tags.

    It is cut between words to at most LONGEST characters, because a few comments of set.mm are essays.
    """
    parts = CREDIT.sub(" ", " ".join(comment.split())).split("`")
    for row, part in enumerate(parts):
        if row % 2:
            parts[row] = part.strip()  # math
        else:
            prose = TAG.sub(" ", REFERENCE.sub(" ", part)).replace("~~", "~")
            parts[row] = re.sub(r"\s+(?=[.,;:](?:\s|$))", "", prose)
    folded = " ".join("".join(parts).split())
    return shorten(folded, LONGEST, placeholder=" ...")


def load(path: Path | None = None) -> Task:
    """The premise selection task: from a theorem's comment and formula to the `|-` assertions that its proof uses.

    A text is the description and then the formula with its hypotheses, for documents and labels alike: `Inference
    introducing an antecedent. |- ph => |- ( ps -> ph )`. The tree is that of the file's headings.
    Splits (ours): of the documents in file order the first 80 % train, the next 10 % validation, the rest test.
    `filtered` holds, for validation and test, the theorem itself and every later label.

    path: a Metamath file, gzip or plain; by default what `find` finds.
    Raises FileNotFoundError, or ValueError for a file that cannot be read or has fewer than 10 documents.
    """
    path = find() if path is None else Path(path)
    database = parse(read(path), path.name)
    space, shortened = _label_space(database)
    theorems = np.array([row for row, entry in enumerate(database.assertions) if entry.premises], np.int32)
    if len(theorems) < 10:
        raise ValueError(
            f"{path.name} has {len(theorems)} theorems with premises; at least 10 are needed to split them"
        )
    ends = np.rint(np.cumsum(SHARES) * len(theorems)).astype(int)
    parts = dict(zip(SPLITS, np.split(theorems, ends), strict=True))

    def document(row: int) -> dict[str, object]:
        return {"uid": space.ids[row], "text": space.texts[row], "labels": database.assertions[row].premises}

    return Task(
        documents=splits_of({split: [document(row) for row in rows] for split, rows in parts.items()}),
        space=space,
        card=_card(path, database, shortened),
        filtered={split: at_or_after(parts[split], len(space)) for split in SPLITS[1:]},
    )


def _label_space(database: Database) -> tuple[LabelSpace, int]:
    """The assertions below the sections, and how many descriptions were shortened."""
    assertions, sections = database.assertions, database.sections
    n_labels = len(assertions)
    above = [entry.section for entry in assertions] + [section.parent for section in sections]
    descriptions = [describe(entry.comment) for entry in assertions]
    texts = [f"{prose} {entry.formula}".strip() for prose, entry in zip(descriptions, assertions, strict=True)]
    space = LabelSpace(
        "setmm",
        [entry.label for entry in assertions] + [f"§{section.number}" for section in sections],
        texts + [section.title for section in sections],
        n_labels,
        np.array([n_labels + section if section >= 0 else -1 for section in above], np.int32),
    )
    return space, sum(prose.endswith(" ...") for prose in descriptions)


def at_or_after(theorems: Int[np.ndarray, " documents"], n_labels: int) -> csr_matrix:
    """The labels that may not be predicted for each theorem: its own and all later ones.

    theorems: label numbers.
    n_labels: how many labels there are.
    Returns a boolean CSR matrix [documents, labels].
    """
    indptr = np.concatenate([[0], np.cumsum(n_labels - theorems)])
    columns = np.concatenate([np.arange(row, n_labels, dtype=np.int32) for row in theorems])
    return csr_matrix((np.ones(len(columns), bool), columns, indptr), shape=(len(theorems), n_labels))


def _card(path: Path, database: Database, shortened: int) -> Card:
    vendored = path.resolve() == slice_path().resolve()
    which = (
        f"Read from the slice {path.name} that comes with this repository, NOT from the whole of set.mm"
        if vendored
        else f"Read from {path.name}"
    )
    return Card(
        title="set.mm premise selection" + (" (slice)" if vendored else ""),
        licence="CC0 1.0 (public domain dedication, in the file's header)",
        source=f"set.mm, the Metamath Proof Explorer's database; as in Debian's package {PACKAGE}",
        made=f"{which} ({database.version}). Documents are the theorems; labels are the axioms, definitions and "
        "theorems that their proofs name. Text is the comment (credits, dates and references by label taken out) "
        "and the formula with its hypotheses. Split by position in the file, 80/10/10; validation and test bar the "
        "theorem itself and all later labels, train carries no such list.",
        dropped={
            **{reason: count for reason, count in database.skipped.items() if count},
            f"descriptions cut at {LONGEST} characters": shortened,
        },
    )


def write_slice(source: Path, target: Path | None = None, until: str = FIRST_LEFT_OUT) -> Path:
    """Write the beginning of set.mm as a gzip file of its own.

    It holds the first comment (the version), the public domain notice and, from the heading of the first part on, every
    comment, statement and proof. It lacks the other notes of the header, and the markers where the file may be split.
    The result is valid Metamath; with the same zlib its bytes are the same.

    source: the whole set.mm.
    target: the file to write; by default `slice_path()`.
    until: title of the first heading that is left out.
    Raises what `read` and `parse` raise, and ValueError when no heading after the first part's has that title.
    """
    source, target = Path(source), target or slice_path()
    text = read(source)
    header: list[str] = []
    begin = end = -1
    for statement in statements(text, source.name):
        heading = HEADING.match(statement.text)
        if begin < 0 and heading and LEVELS[heading["frame"]] == 0:
            begin = statement.start
        elif begin < 0 and statement.text and (not header or "PUBLIC DOMAIN" in statement.text):
            header.append(text[statement.start : statement.end])
        elif heading and " ".join(heading["title"].split()) == until:
            end = statement.start
            break
    if not 0 <= begin < end:
        raise ValueError(f"{source.name} has no heading {until!r} after that of its first part: nothing to cut at")
    note = "$( A slice of set.mm: its beginning, without the header's notes. See data/README.md. $)"
    body = "\n\n".join([*header, note, MARKER.sub("", text[begin:end])])
    parse(body, target.name)
    with atomic(target) as scratch:
        scratch.write_bytes(gzip.compress(body.encode(), 9, mtime=0))
    return target


app = typer.Typer(add_completion=False, help=(__doc__ or "").partition("\n")[0])


@app.callback()
def _commands() -> None:
    pass


@app.command("slice")
def slice_command(source: Path, until: str = FIRST_LEFT_OUT) -> None:
    """Write the vendored slice anew from SOURCE, a whole set.mm."""
    try:
        target = write_slice(source, until=until)
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{target.name}: {target.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    app()
