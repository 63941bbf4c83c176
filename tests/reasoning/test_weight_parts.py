"""Weights in parts: joined in order, checked before they are read, unpacked once; the real ones where they are here."""

import hashlib
import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from ctd.reasoning import models, weight_parts
from ctd.reasoning.models import PACKAGED, Packaged
from tests.distill.test_train import tiny

CONTENT = bytes(range(256)) * 40


def split(folder, content, n):
    """The content as parts of unequal size, each a file of its own package."""
    cuts = [round(len(content) * (i / n) ** 2) for i in range(n + 1)]
    for i in range(n):
        (folder / f"part{i + 1:02d}.bin").write_bytes(content[cuts[i] : cuts[i + 1]])


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Registers content as parts of stand-in packages in a list of sources of its own."""

    class File(str):
        def locate(self):
            return tmp_path / self

    def files(package):
        if not (path := tmp_path / f"part{int(package.removeprefix('stand-in-')):02d}.bin").exists():
            raise weight_parts.PackageNotFoundError(package)
        return [File("__init__.py"), File(path.name)]

    def register(content=CONTENT, n=11, **changes):
        split(tmp_path, content, n)
        entry = {
            "package": "stand-in-{n}", "version": "1", "parts": n, "file": "part{n:02d}.bin", "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "licence": "ours",
        }  # fmt: skip
        (tmp_path / "sources.json").write_text(json.dumps({"stand_in": entry | changes}))
        return weight_parts.named("stand_in")

    monkeypatch.setattr(weight_parts, "files", files)
    monkeypatch.setattr(weight_parts, "SOURCES", tmp_path / "sources.json")
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "cache"))
    return register


def test_parts_are_joined_by_number_in_small_pieces(parts, tmp_path, monkeypatch):
    """Part 10 comes after part 9, not after part 1."""
    monkeypatch.setattr(weight_parts, "PIECE", 7)
    parts().join(tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == CONTENT


def test_a_changed_part_is_refused_before_it_is_read(parts, tmp_path, monkeypatch):
    parts()
    monkeypatch.setattr(weight_parts, "read_gguf", lambda *_: pytest.fail("read before it was checked"))
    (tmp_path / "part03.bin").write_bytes((tmp_path / "part03.bin").read_bytes()[::-1])
    with pytest.raises(
        ValueError, match=r"11 parts of stand-in-N are not the file published.*`make reasoner`"
    ) as raised:
        weight_parts.unpacked("stand_in")
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "cache" / "models").glob("*stand_in*"))


def test_a_missing_package_names_the_command(parts, tmp_path):
    parts()
    (tmp_path / "part07.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"stand-in-7 is not installed \(7 of 11 .*`make reasoner`"):
        weight_parts.unpacked("stand_in")


def test_weights_in_parts_are_unpacked_once_and_load_by_name(parts, tmp_path, monkeypatch):
    """What is read is the whole file. Afterwards the packages may go, and nothing half-made is left."""
    described, read, model = parts(), [], tiny()
    words = Tokenizer(WordLevel({"<unk>": 0, "<end>": 1} | {f"w{i}": i for i in range(2, 40)}, "<unk>"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<end>")

    def read_gguf(file, options):
        read.append(file.read_bytes())
        assert options == {"dtype": torch.bfloat16}
        return model, tokenizer

    monkeypatch.setattr(weight_parts, "read_gguf", read_gguf)
    monkeypatch.setitem(PACKAGED, "pocket", Packaged(parts="stand_in", mend=weight_parts.MEND))
    first = models.load("pocket", dtype="float32", device="cpu")
    for part in tmp_path.glob("part*.bin"):
        part.unlink()
    second = models.load("pocket", dtype="float32", device="cpu")
    assert read == [CONTENT]
    assert first.key == second.key
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(first.model(ids).logits, model(ids).logits)
    assert [path.name[:8] for path in (tmp_path / "cache" / "models").iterdir()] == ["stand_in"]
    assert described.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_the_list_of_packages_is_the_list_of_parts():
    text = (weight_parts.DATA.parent / "requirements-reasoner.txt").read_text()
    pinned = {line for line in text.splitlines() if not line.startswith("#")}
    sources = map(weight_parts.named, json.loads(weight_parts.SOURCES.read_text()))
    assert pinned == {f"{s.package.format(n=n)}=={s.version}" for s in sources for n in range(1, s.parts + 1)}
