"""Premise selection in set.mm: from a theorem to the axioms, definitions and theorems that its proof uses.

Notes: labels are the assertions of typecode `|-`, in the order of the file. A proof may only use what stands before
it, so the splits go by position, and a theorem's own label and all later ones may never be predicted for it.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import NamedTuple

import numpy as np
import typer
from jaxtyping import Int
from scipy.sparse import csr_matrix

from ctd.cache import DATA, atomic, cache_dir
from ctd.data.label_space import LabelSpace
from ctd.data.task import SPLITS, Card, Task, splits_of

DEBIAN = Path("/usr/share/metamath/databases/set.mm")
PACKAGE = "metamath-databases"
PATIENCE = 120.0  # seconds for the download, and for unpacking it
SHARES = (0.8, 0.1)  # of the documents, train and validation; the rest is test
LONGEST = 1000  # characters of a description
FIRST_LEFT_OUT = "ZF Set Theory - add the Axiom of Replacement"  # the heading at which the slice ends

KEYWORD = re.compile(r"(?<!\S)\$\S(?!\S)")
COMMENT_END = re.compile(r"(?<!\S)\$[()](?!\S)")
HEADING = re.compile(r"\s*(?P<frame>####|#\*#\*|=-=-|-\.-\.)\S*\s*\n(?P<title>.*?)\n\s*(?P=frame)", re.DOTALL)
LEVELS = {"####": 0, "#*#*": 1, "=-=-": 2, "-.-.": 3}
CREDIT = re.compile(
    r"\((?:(?:[^()]|\([^()]*\))*\d-[A-Z][a-z]{2}-\d{4}[.,]?"
    r"|(?:Proof modification|New usage) is discouraged\.?) ?\)"
)
MARKER = re.compile(r"\$\( (?:Begin|End) \$\[.*?\$\] \$\)\s*")  # where set.mm may be split into files
TAG = re.compile(r"</?[A-Z]+\b[^<>]*>")
REFERENCE = re.compile(r"(?<!~)~ ?(?:https?:\S+|[A-Za-z0-9._-]+)")


class Statement(NamedTuple):
    """One comment, block bracket or statement, with the offsets of its first character and of what follows it.

    keyword: `$(`, `${`, `$}`, `$c`, `$v`, `$d`, `$f`, `$e`, `$a` or `$p`. text: a comment's text. symbols, proof:
    the words before and after `$=`.
    """

    keyword: str
    start: int
    end: int
    label: str = ""
    text: str = ""
    symbols: Sequence[str] = ()
    proof: Sequence[str] = ()


@dataclass(frozen=True)
class Assertion:
    """An axiom, definition or theorem of typecode `|-`.

    formula: hypotheses and conclusion, in set.mm's own notation `|- ph & |- ( ph -> ps ) => |- ps`.
    comment: the raw comment that stands directly before it, or "". section: its node among the sections, or -1.
    premises: numbers of the assertions that its proof uses, sorted; None for an axiom or an unfinished proof.
    """

    label: str
    formula: str
    comment: str
    section: int
    premises: list[int] | None


@dataclass(frozen=True)
class Section:
    """A heading of the file: number (`1.2.3`), title, the node above it or -1."""

    number: str
    title: str
    parent: int


@dataclass(frozen=True)
class Database:
    """What a Metamath file asserts, in its order. version: the file's own first line; skipped: what, how often."""

    assertions: list[Assertion]
    sections: list[Section]
    version: str
    skipped: Counter[str]


class _Outline:
    """The headings that are open while a file is read; a section is made when its first assertion comes."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.open: list[tuple[int, str, int]] = []  # level, title, section (-1: not made yet)
        self.below: Counter[int] = Counter()

    def enter(self, comment: str) -> bool:
        """Open the heading that a comment frames; False when it frames none."""
        if (heading := HEADING.match(comment)) is None:
            return False
        level = LEVELS[heading["frame"]]
        self.open = [entry for entry in self.open if entry[0] < level]
        self.open.append((level, " ".join(heading["title"].split()), -1))
        return True

    def section(self) -> int:
        """The section that an assertion found here stands in, -1 before the first heading."""
        above = -1
        for row, (level, title, section) in enumerate(self.open):
            if section < 0:
                self.below[above] += 1
                prefix = f"{self.sections[above].number}." if above >= 0 else ""
                self.sections.append(Section(f"{prefix}{self.below[above]}", title, above))
                section = len(self.sections) - 1
                self.open[row] = (level, title, section)
            above = section
        return above


def slice_path() -> Path:
    """The vendored slice: the first parts of set.mm, made by `write_slice`."""
    return DATA / "setmm_slice.mm.gz"


def find() -> Path:
    """The set.mm to read: `$CTD_SETMM`, else Debian's, installed or fetched into the cache, else the slice.

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


def read(path: Path) -> str:
    """The text of a `.mm` or `.mm.gz` file. Raises FileNotFoundError, or ValueError when it is damaged."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no Metamath file {path}; give the path of set.mm, or unset CTD_SETMM")
    try:
        raw = Path(path).read_bytes()
        return (gzip.decompress(raw) if Path(path).suffix == ".gz" else raw).decode()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a truncated or damaged gzip file; fetch it again") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a Metamath file: it is not text (byte {error.start})") from error


def refusal(text: str, name: str, offset: int, what: str) -> ValueError:
    """The error for a file that is not as it should be: where (file and line of `offset`) and what."""
    return ValueError(f"{name}, line {text.count(chr(10), 0, offset) + 1}: {what}")


def statements(text: str, name: str) -> Iterator[Statement]:
    """The comments, block brackets and statements of a Metamath file, in order.

    A comment inside a statement is skipped. name: how errors call the file. Raises ValueError, with the line, for
    an unterminated or nested comment, an unterminated statement (with its label), a missing or stray label,
    a `$` word that has no place there, and an included file.
    """
    refuse = partial(refusal, text, name)
    position = 0
    words: list[str] = []
    opened: Statement | None = None
    while match := KEYWORD.search(text, position):
        words += text[position : match.start()].split()
        keyword, start, position = match[0], match.start(), match.end()
        if keyword == "$(":
            close = COMMENT_END.search(text, position)
            if close is None:
                raise refuse(start, "this comment is never closed by $)")
            if close[0] == "$(":
                raise refuse(start, "this comment is not closed by $) before another $( begins")
            if opened is None and not words:
                yield Statement("$(", start, close.end(), text=text[position : close.start()])
            position = close.end()
        elif opened is not None and keyword == "$=" and opened.keyword == "$p" and not opened.symbols:
            opened, words = opened._replace(symbols=words), []
        elif opened is not None:
            if keyword != "$.":
                raise refuse(opened.start, f"{_called(opened)} is not closed by $. before {keyword}")
            if opened.keyword == "$p" and not opened.symbols:
                raise refuse(opened.start, f"{_called(opened)} needs a formula, $= and a proof")
            if opened.keyword == "$p":
                yield opened._replace(proof=words, end=position)
            else:
                yield opened._replace(symbols=words, end=position)
            opened, words = None, []
        elif keyword in ("$f", "$e", "$a", "$p"):
            if len(words) != 1:
                raise refuse(start, f"expected one label before {keyword}, got {' '.join(words[-5:]) or 'none'}")
            opened, words = Statement(keyword, start, start, label=words[0]), []
        elif words:
            raise refuse(start, f"expected $f, $e, $a or $p after {words[-1]!r}, got {keyword}")
        elif keyword in ("$c", "$v", "$d"):
            opened = Statement(keyword, start, start)
        elif keyword in ("${", "$}"):
            yield Statement(keyword, start, position)
        elif keyword == "$[":
            raise refuse(start, "this file includes another one; join them into one file first")
        else:
            raise refuse(start, f"{keyword} has no place outside a statement")
    if opened is not None:
        raise refuse(opened.start, f"{_called(opened)} is never closed by $. (is the file cut short?)")
    if words := words + text[position:].split():
        raise refuse(len(text), f"the file ends after {words[-1]!r}, which belongs to no statement")


def _called(statement: Statement) -> str:
    return f"{statement.keyword} statement '{statement.label}'" if statement.label else f"this {statement.keyword}"


def parse(text: str, name: str) -> Database:
    """Read a Metamath file: its assertions of typecode `|-`, what each proof uses, and the sections they stand in.

    Proofs are read, not checked. name: how errors call the file. Raises ValueError, naming line and label, for what
    `statements` refuses, a label used twice, a proof that is not terminated or names what does not stand before
    it, an unbalanced block; and for a file without assertions.
    """
    refuse = partial(refusal, text, name)
    assertions: list[Assertion] = []
    number: dict[str, int] = {}  # of each label: its assertion, or -1 for hypotheses and syntax
    outline = _Outline()
    skipped: Counter[str] = Counter()
    hypotheses: list[str] = []
    blocks: list[tuple[int, int]] = []  # where each opens, and how many hypotheses held there
    comment = version = ""
    for statement in statements(text, name):
        keyword, start, label = statement.keyword, statement.start, statement.label
        if keyword == "$(":
            version = version or " ".join(statement.text.split())
            if not statement.text.lstrip().startswith(("$j", "$t")):  # notes for other programs
                comment = "" if outline.enter(statement.text) else statement.text
            continue
        if keyword == "${":
            blocks.append((start, len(hypotheses)))
        elif keyword == "$}":
            if not blocks:
                raise refuse(start, "$} closes a block that was never opened")
            del hypotheses[blocks.pop()[1] :]
        elif label:
            if label in number:
                raise refuse(start, f"the label '{label}' is used a second time")
            provable = statement.symbols[:1] == ["|-"]
            premises = None
            if keyword == "$p":
                try:
                    premises = _premises(statement.proof, number)
                except ValueError as error:
                    raise refuse(start, f"the proof of '{label}' {error}") from None
            number[label] = -1
            if keyword == "$e" and provable:
                hypotheses.append(" ".join(statement.symbols))
            elif keyword in ("$a", "$p") and provable:
                formula = " => ".join(filter(None, [" & ".join(hypotheses), " ".join(statement.symbols)]))
                number[label] = len(assertions)
                assertions.append(Assertion(label, formula, comment, outline.section(), premises))
                skipped["axioms and definitions (labels, not documents)"] += keyword == "$a"
                skipped["theorems with an unfinished proof"] += keyword == "$p" and premises is None
                skipped["theorems whose proof uses hypotheses only"] += premises == []
            else:
                skipped["syntax statements (typecode other than |-)"] += keyword in ("$a", "$p")
        comment = ""
    if blocks:
        raise refuse(blocks[-1][0], "this ${ is never closed by $} (is the file cut short?)")
    if not assertions:
        raise ValueError(f"{name} is not a Metamath database of theorems: it asserts nothing of typecode |-")
    return Database(assertions, outline.sections, version, skipped)


def _premises(proof: Sequence[str], number: dict[str, int]) -> list[int] | None:
    """The assertions that a proof names, sorted; None when a step is left open by `?`.

    proof: the words after `$=`; a compressed proof names its labels in parentheses. number: see `parse`.
    """
    if not proof:
        raise ValueError("is empty")
    named = proof
    if proof[0] == "(":
        if ")" not in proof:
            raise ValueError("opens ( for its labels and never closes it by )")
        end = proof.index(")")
        named, letters = proof[1:end], "".join(proof[end + 1 :])
        if not re.fullmatch("[A-Z?]+", letters):
            raise ValueError("is compressed and must end in letters A to Z")
        if "?" in letters:
            return None
    elif "?" in proof:
        return None
    unknown = next((label for label in named if label not in number), None)
    if unknown is not None:
        raise ValueError(f"names '{unknown}', which does not stand before it")
    return sorted({number[label] for label in named} - {-1})


def describe(comment: str) -> str:
    """A comment as prose: folded, without credits and dates, `~ label` references, math backquotes and HTML tags.

    At most LONGEST characters, cut between words: a few comments of set.mm are essays.
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
    """The premise selection task: a theorem's comment and formula to the `|-` assertions that its proof uses.

    path: a Metamath file, `.mm` or `.mm.gz`; by default what `find` finds. A text is the description and then the
    formula with its hypotheses, for documents and labels alike: `Inference introducing an antecedent.
    |- ph => |- ( ps -> ph )`. The tree is that of the file's headings.
    Splits (ours): of the documents in file order the first 80 % train, the next 10 % validation, the rest test.
    `filtered` holds, for validation and test, the theorem itself and every later label.
    Raises FileNotFoundError, or ValueError for a file that cannot be read, or with fewer than 10 documents.
    """
    path = find() if path is None else Path(path)
    database = parse(read(path), path.name)
    assertions, sections = database.assertions, database.sections
    labels = len(assertions)
    parents = np.array(
        [labels + a.section if a.section >= 0 else -1 for a in assertions]
        + [labels + s.parent if s.parent >= 0 else -1 for s in sections],
        np.int32,
    )
    descriptions = [describe(a.comment) for a in assertions]
    texts = [f"{prose} {a.formula}".strip() for prose, a in zip(descriptions, assertions, strict=True)]
    shortened = sum(prose.endswith(" ...") for prose in descriptions)
    space = LabelSpace(
        "setmm",
        [a.label for a in assertions] + [f"§{s.number}" for s in sections],
        texts + [s.title for s in sections],
        labels,
        parents,
    )
    own = np.array([row for row, a in enumerate(assertions) if a.premises], np.int32)
    if len(own) < 10:
        raise ValueError(f"{path.name} has {len(own)} theorems with premises; at least 10 are needed to split them")
    ends = np.rint(np.cumsum(SHARES) * len(own)).astype(int)
    parts = dict(zip(SPLITS, np.split(own, ends), strict=True))
    return Task(
        documents=splits_of(
            {
                split: [
                    {"uid": assertions[row].label, "text": texts[row], "labels": assertions[row].premises}
                    for row in rows
                ]
                for split, rows in parts.items()
            }
        ),
        space=space,
        card=_card(path, database, shortened),
        filtered={split: at_or_after(parts[split], labels) for split in SPLITS[1:]},
    )


def at_or_after(own: Int[np.ndarray, " documents"], n_labels: int) -> csr_matrix:
    """Boolean CSR [documents, labels]: each theorem's own label and all labels that stand after it."""
    indptr = np.concatenate([[0], np.cumsum(n_labels - own)])
    columns = np.concatenate([np.arange(row, n_labels, dtype=np.int32) for row in own])
    return csr_matrix((np.ones(len(columns), bool), columns, indptr), shape=(len(own), n_labels))


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
            **{what: count for what, count in database.skipped.items() if count},
            f"descriptions cut at {LONGEST} characters": shortened,
        },
    )


def write_slice(source: Path, target: Path | None = None, until: str = FIRST_LEFT_OUT) -> Path:
    """Write the beginning of set.mm, up to the heading titled `until`, as a gzip file of its own.

    Kept as they are: the first comment (the version), the one with the public domain notice, and from the first
    part's heading on every comment, statement and proof. Left out: the header's other notes, and the markers where
    the file may be split. The result is valid Metamath; with the same zlib its bytes are the same.
    target: by default `slice_path()`. Raises what `read` and `parse` raise, and ValueError when no heading after
    the first part's has that title.
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
        raise typer.Exit(1) from None
    typer.echo(f"{target.name}: {target.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    app()
