"""A packed run comes back file for file, and an archive that was changed, or would leave its folder, leaves nothing."""

import json
import zipfile
from hashlib import sha256

import pytest
from typer.testing import CliRunner

from ctd.book import archives
from ctd.book.run_folder import RunFolder
from ctd.cli import app
from tests.bad_input.run_cases import write_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "01_first" / "default"
    write_run(folder)
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "a.png").write_bytes(bytes(range(256)))
    return RunFolder(folder)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_comes_back_file_for_file(run):
    output = CliRunner().invoke(app, ["pack", "01_first/default"], catch_exceptions=False).stdout
    assert output.endswith("elsewhere: ctd unpack 01_first-default.ctd.zip\n")
    output = (
        CliRunner().invoke(app, ["unpack", "01_first-default.ctd.zip", "--out", "back"], catch_exceptions=False).stdout
    )
    assert "01_first" in output
    assert files(run.path) == files(run.path.parents[2] / "back")
    assert "figures/a.png" in files(run.path)


def changed(run, **contents):
    """An archive of the run with other contents; the hashes are those of `contents` where they name files."""
    members = {**files(run.path), **contents}
    hashes = members.pop("hashes", None) or {name: sha256(content).hexdigest() for name, content in members.items()}
    with zipfile.ZipFile("bad.zip", "w") as archive:
        for name, content in {**members, archives.HASHES: json.dumps(hashes).encode()}.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:out.txt", "a/"])
def test_an_archive_cannot_leave_its_folder(name, run, tmp_path):
    changed(run, **{name: b"harm" if not name.endswith("/") else b""})
    before = files(tmp_path)
    done = CliRunner().invoke(app, ["unpack", "bad.zip", "--out", "back"])
    assert done.exit_code == 2
    assert "would leave the folder" in done.stderr
    assert files(tmp_path) == before
    assert not (tmp_path / "back").exists()


def test_changed_added_and_missing_files_are_refused(run, tmp_path):
    good = {name: sha256(content).hexdigest() for name, content in files(run.path).items()}
    for contents, complaint in (
        ({"results.json": b"{}", "hashes": good}, "results.json is not the file that was packed"),
        ({"more.txt": b"", "hashes": good}, "its files are not those that SHA256.json lists"),
        ({"hashes": {**good, "gone.txt": "0"}}, "its files are not those that SHA256.json lists"),
    ):
        changed(run, **contents)
        with pytest.raises(ValueError, match=complaint):
            archives.unpack(tmp_path / "bad.zip", tmp_path / "back")
        assert not (tmp_path / "back").exists()


def test_a_file_that_is_no_archive_and_folders_that_are_there(run, tmp_path, monkeypatch):
    (tmp_path / "bad.zip").write_text("no zip")
    with pytest.raises(ValueError, match="is no archive of ctd pack, or is damaged"):
        archives.unpack(tmp_path / "bad.zip", tmp_path / "back")
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        archives.unpack(tmp_path / "nowhere.zip", tmp_path / "back")
    archives.pack(run, tmp_path / "good.zip")
    with pytest.raises(FileExistsError, match="exists and is not written over"):
        archives.pack(run, tmp_path / "good.zip")
    with pytest.raises(FileExistsError, match="exists and is not written over"):
        archives.unpack(tmp_path / "good.zip", run.path)
    monkeypatch.setattr(archives, "LARGEST", 10)
    with pytest.raises(ValueError, match="unpacks to"):
        archives.unpack(tmp_path / "good.zip", tmp_path / "back")
