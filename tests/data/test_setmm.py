"""Premise selection: the task made of set.mm, its slice, and where the file is found."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ctd.cache import DATA, file_digest
from ctd.data.readers import metamath, metamath_statements, setmm
from ctd.data.task import Task
from tests.data.test_metamath import SMALL, parse


@pytest.fixture(scope="module")
def task() -> Task:
    return setmm.load(setmm.slice_path())


@pytest.fixture(scope="module")
def slice_text() -> str:
    return gzip.decompress(setmm.slice_path().read_bytes()).decode()


def many(n: int) -> str:
    """The small file with n more theorems, so that there is something to split."""
    more = "".join(f"t{i} $p |- ( ph -> ( ps -> ph ) ) $= wph wps ax-1 $.\n" for i in range(n))
    return SMALL + more


@pytest.mark.parametrize(
    ("comment", "prose"),
    [
        (parse(SMALL).assertions[0].comment, "Modus ponens, see. Says ( ph -> ps )."),
        ("Folded\n   over  lines.", "Folded over lines."),
        ("A (good) one. (Proof modification\n is discouraged.)", "A (good) one."),
        ("See ~ http://a.org/x.html and ~ax-1 .", "See and."),
        ("Not ` ~ph ` but ` A ~~ B ` , ~~ escaped.", "Not ~ph but A ~~ B, ~ escaped."),
        ("<HTML><TABLE BORDER=1> <TR>Cell</TR> ` <. A , B >. ` ", "Cell <. A , B >."),
        ("(Contributed by X, 1-Jan-2000.)", ""),
    ],
)
def test_describe(comment: str, prose: str):
    assert setmm.describe(comment) == prose


def test_an_essay_is_cut_between_words():
    prose = setmm.describe("premise " * 1000)
    assert len(prose) <= setmm.LONGEST
    assert prose.endswith("premise ...")


def test_missing_truncated_and_binary_files_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no Metamath file .*none\.mm"):
        setmm.load(tmp_path / "none.mm")
    cut = tmp_path / "cut.mm.gz"
    cut.write_bytes(setmm.slice_path().read_bytes()[:50_000])
    with pytest.raises(ValueError, match="truncated or damaged gzip"):
        setmm.load(cut)
    cut.write_bytes(b"plain text under a gzip name")
    with pytest.raises(ValueError, match="cut.mm.gz, line 1: the file ends after 'name'"):
        setmm.load(cut)
    binary = tmp_path / "binary.mm"
    binary.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="not a Metamath file"):
        setmm.load(binary)


def test_too_few_theorems_to_split_are_refused(tmp_path: Path):
    file = tmp_path / "small.mm"
    file.write_text(SMALL)
    with pytest.raises(ValueError, match="has 2 theorems with premises; at least 10"):
        setmm.load(file)


def test_plain_and_gzipped_files_give_the_same_task(tmp_path: Path):
    plain, packed = tmp_path / "many.mm", tmp_path / "many.mm.gz"
    plain.write_text(many(18))
    packed.write_bytes(gzip.compress(many(18).encode()))
    tasks = [setmm.load(file) for file in (plain, packed)]
    assert tasks[0].space.texts == tasks[1].space.texts
    assert [len(tasks[0].documents[split]) for split in ("train", "validation", "test")] == [16, 2, 2]
    assert tasks[0].documents["train"][0] == {
        "uid": "a1i",
        "text": "Introduce an antecedent. |- ph => |- ( ps -> ph )",
        "labels": [0, 1],
    }
    assert "many.mm (tiny.mm - Version of today)" in tasks[0].card.made
    assert tasks[0].card.title == "set.mm premise selection"


def by_hand(text: str) -> dict[str, set[str]]:
    """An independent reading, by regular expressions: what each `|-` theorem's compressed proof names."""
    bare = re.sub(r"\$\(\s.*?\s\$\)", " ", text, flags=re.DOTALL)
    provable = set(re.findall(r"(\S+)\s+\$[ap]\s+\|-\s", bare))
    theorem = re.compile(r"(\S+)\s+\$p\s+\|-\s[^$]*\$=\s+\(([^)]*)\)\s[^$]*\$\.")
    named = {label: set(names.split()) & provable for label, names in theorem.findall(bare)}
    return {label: names for label, names in named.items() if names}


def test_slice_agrees_with_an_independent_reading(task: Task, slice_text: str):
    expected = by_hand(slice_text)
    premises = {
        row["uid"]: {task.space.ids[label] for label in row["labels"]}
        for split in task.documents.values()
        for row in split
    }
    assert premises == expected
    assert len(expected) > 4000


def test_splits_follow_the_file(task: Task):
    places = {split: [task.space.lookup[uid] for uid in rows["uid"]] for split, rows in task.documents.items()}
    order = places["train"] + places["validation"] + places["test"]
    assert order == sorted(set(order))
    n = len(order)
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(len(places[split]) - share * n) <= 1


def test_a_proof_uses_only_what_stands_before_it(task: Task):
    for split in task.documents.values():
        for uid, labels in zip(split["uid"], split["labels"], strict=True):
            assert labels == sorted(set(labels))
            assert labels[-1] < task.space.lookup[uid]


def test_filtered_bars_the_theorem_itself_and_all_later_labels(task: Task):
    assert set(task.filtered) == {"validation", "test"}
    for split, barred in task.filtered.items():
        places = np.array([task.space.lookup[uid] for uid in task.documents[split]["uid"]])
        expected = np.arange(len(task.space))[None, :] >= places[:, None]
        assert (barred.toarray() == expected).all()
        assert task.gold(split).multiply(barred).nnz == 0


def test_slice_texts_are_readable(task: Task):
    assert task.space.texts[task.space.lookup["mpd"]].endswith(
        "|- ( ph -> ps ) & |- ( ph -> ( ps -> ch ) ) => |- ( ph -> ch )"
    )
    labels = task.space.texts[: len(task.space)]
    assert all("|- " in text and "\n" not in text for text in labels)
    prose = [text.partition("|- ")[0] for text in labels]
    assert not [text for text in prose if re.search(r"\(Contributed by|\(Revised by|discouraged\.\)|`", text)]


def test_references_never_give_a_premise_away(task: Task, slice_text: str):
    """What stays are a book's theorem numbers (`Theorem 19.9 of [Margaris]`) that set.mm also takes for labels."""
    comments = {a.label: a.comment for a in parse(slice_text).assertions}
    n_named, left = 0, set()
    for split in task.documents.values():
        for row in split:
            names = {task.space.ids[label] for label in row["labels"]}
            n_named += len(names & set(comments[row["uid"]].split()))
            left |= names & set(setmm.describe(comments[row["uid"]]).split())
    assert n_named > 100
    assert {label for label in left if not label[0].isdigit()} <= {"xor"}


def test_tree_of_the_slice_is_that_of_the_headings(task: Task, slice_text: str):
    space = task.space
    assert space.parents is not None
    chain = [space.lookup["id"]]
    while (above := space.parents[chain[-1]]) >= 0:
        chain.append(int(above))
    assert [space.texts[node] for node in chain[:0:-1]] == [
        "CLASSICAL FIRST-ORDER LOGIC WITH EQUALITY",
        "Propositional calculus",
        "Logical implication",
    ]
    assert (space.parents[: len(space)] >= len(space)).all()
    inner = range(len(space), len(space.ids))
    assert all(len(space.descend(node)) for node in inner)
    folded = " ".join(slice_text.split())
    assert all(space.texts[node] in folded for node in inner)


def test_task_is_kept_whole(task: Task, tmp_path: Path):
    task.save(tmp_path / "task")
    again = Task.load(tmp_path / "task")
    assert vars(again.card) == vars(task.card)
    assert again.documents["test"]["labels"][:] == task.documents["test"]["labels"][:]
    assert (again.filtered["test"] != task.filtered["test"]).nnz == 0


def test_slice_is_small_and_says_who_made_it(task: Task, slice_text: str):
    assert setmm.slice_path().stat().st_size < 3e6
    assert "PUBLIC DOMAIN" in slice_text[:3000]
    assert "CC0" in slice_text[:3000]
    assert task.card.title.endswith("(slice)")
    assert "NOT from the whole of set.mm" in task.card.made
    assert "Version of" in task.card.made


def test_readme_describes_this_very_slice(task: Task):
    readme = (DATA / "README.md").read_text()
    documents = sum(len(split) for split in task.documents.values())
    assert file_digest(setmm.slice_path()) in readme
    assert f"{len(task.space):,} assertions, {documents:,} of them theorems" in readme


def test_write_slice_keeps_the_notice_and_cuts_at_the_heading(tmp_path: Path):
    source, target = tmp_path / "tiny.mm", tmp_path / "slice.mm.gz"
    source.write_text(SMALL.replace("$( Simplification. $)", "$( Begin $[ part.mm $] $)\n$( Simplification. $)"))
    setmm.write_slice(source, target, until="MORE")
    first = target.read_bytes()
    text = gzip.decompress(first).decode()
    assert text.startswith("$( tiny.mm - Version of today $)")
    assert "PUBLIC DOMAIN" in text
    assert "Notes that a slice leaves out" not in text
    assert "$[" not in text
    assert [a.label for a in parse(text).assertions] == ["ax-mp", "ax-1", "a1i", "idi"]
    assert setmm.write_slice(source, target, until="MORE").read_bytes() == first


def test_write_slice_of_a_slice_changes_no_theorem(tmp_path: Path, task: Task):
    until = "ZF (ZERMELO-FRAENKEL) SET THEORY"
    shorter = parse(metamath_statements.read(setmm.write_slice(setmm.slice_path(), tmp_path / "s.mm.gz", until=until)))
    n = len(shorter.assertions)
    assert 2000 < n < len(task.space)
    assert [a.label for a in shorter.assertions] == task.space.ids[:n]


def test_write_slice_refuses_a_heading_that_is_not_there(tmp_path: Path):
    (tmp_path / "tiny.mm").write_text(SMALL)
    with pytest.raises(ValueError, match=r"tiny\.mm has no heading 'LATER'"):
        setmm.write_slice(tmp_path / "tiny.mm", tmp_path / "slice.mm.gz", until="LATER")
    assert not (tmp_path / "slice.mm.gz").exists()


def test_slice_command_reports_a_missing_file_in_one_line(tmp_path: Path):
    result = CliRunner().invoke(setmm.app, ["slice", str(tmp_path / "none.mm")])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "no Metamath file" in result.output


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: no set.mm named or installed, an empty cache, and only the programs in `bin`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.delenv("CTD_SETMM", raising=False)
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(setmm, "DEBIAN", tmp_path / "installed" / "set.mm")
    monkeypatch.setattr(setmm.shutil, "which", lambda name: (tmp_path / "bin" / name).is_file() or None)
    setmm._fetch.cache_clear()
    yield tmp_path
    setmm._fetch.cache_clear()


def program(folder: Path, name: str, *lines: str) -> None:
    script = folder / "bin" / name
    script.write_text("\n".join(["#!/bin/sh", *lines]))
    script.chmod(0o755)


def test_find_takes_the_named_file_first(elsewhere: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CTD_SETMM", str(elsewhere / "mine.mm"))
    with pytest.raises(FileNotFoundError, match=r"CTD_SETMM names .*mine\.mm, which is not a file"):
        setmm.find()
    (elsewhere / "mine.mm").write_text(many(18))
    assert setmm.find() == elsewhere / "mine.mm"
    assert len(setmm.load().space) == 24


def test_find_takes_the_installed_file_next(elsewhere: Path):
    setmm.DEBIAN.parent.mkdir()
    setmm.DEBIAN.write_text(SMALL)
    assert setmm.find() == setmm.DEBIAN


def test_find_falls_back_to_the_slice_without_apt(elsewhere: Path):
    assert setmm.find() == setmm.slice_path()


def test_find_fetches_the_package_once(elsewhere: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setmm, "DEBIAN", Path("/nowhere/on/this/machine/set.mm"))
    program(elsewhere, "apt-get", f"echo call >> {elsewhere}/calls", "touch metamath-databases_1_all.deb")
    program(
        elsewhere,
        "dpkg-deb",
        'test "$2" -ef metamath-databases_1_all.deb || exit 1',
        'mkdir -p "$3/nowhere/on/this/machine"',
        'echo fetched > "$3/nowhere/on/this/machine/set.mm"',
    )
    path = setmm.find()
    assert path.read_text() == "fetched\n"
    assert elsewhere / "cache" in path.parents
    setmm._fetch.cache_clear()
    assert setmm.find() == path
    assert (elsewhere / "calls").read_text() == "call\n"
    assert [file.name for file in path.parent.iterdir()] == ["set.mm"]


@pytest.mark.parametrize("download", ["exit 100", "exec sleep 30"])
def test_a_failing_or_endless_download_falls_back_quietly(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], download: str
):
    monkeypatch.setattr(setmm, "PATIENCE", 0.3)
    program(elsewhere, "apt-get", "echo noise; echo noise >&2", download)
    program(elsewhere, "dpkg-deb", "exit 0")
    assert setmm.find() == setmm.slice_path()
    assert list((elsewhere / "cache" / "setmm").iterdir()) == []
    assert capfd.readouterr() == ("", "")


WHOLE = Path(os.environ.get("CTD_SETMM") or setmm.DEBIAN)


@pytest.mark.skipif(not WHOLE.is_file(), reason="the whole set.mm is not on this machine (set CTD_SETMM)")
def test_the_whole_file_has_the_published_facts():
    database = metamath.parse(metamath_statements.read(WHOLE), WHOLE.name)
    if "28-Dec-2020" not in database.version:
        pytest.skip(f"the facts are those of the version of 28-Dec-2020, this is {database.version}")
    task = setmm.load(WHOLE)
    sizes = [len(row) for split in task.documents.values() for row in split["labels"]]
    counts = sum(np.asarray(task.gold(split).sum(axis=0)).ravel() for split in task.documents)
    assert len(task.space) == 39_137
    assert len(sizes) + task.card.dropped["theorems whose proof uses hypotheses only"] == 37_756
    assert (counts > 0).sum() == 33_204
    assert (np.mean(sizes), np.median(sizes)) == (pytest.approx(19.4, abs=0.05), 10)
    assert (counts[counts > 0] <= 5).mean() == pytest.approx(0.69, abs=0.005)
    trained = np.asarray(task.gold("train").sum(axis=0)).ravel() > 0
    test = task.gold("test")
    assert 1 - test[:, trained].nnz / test.nnz == pytest.approx(0.09, abs=0.005)
