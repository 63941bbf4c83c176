"""Keys of cached things: a digest of all that a thing depends on, the code that makes it included.

Notes: a `Maker` names each input once, so that a key without one of them cannot be computed. Inputs are read by their
content. Code is read as Python does, without comments, docstrings and layout: only a change that can change a result
changes a key.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, singledispatch
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from scipy.sparse import csr_matrix

from ctd.cache import ROOT, digest, file_digest

LENGTH = 32  # hex digits of a key
NOT_COUNTED = {
    "ctd.cache",  # decides where a thing lies
    "ctd.hardware", "ctd.ray_cluster", "ctd.workers",  # they decide how fast a thing is made; dtypes are inputs of keys
    "ctd.distill.methods.registry",  # a student's key counts the code of its own method alone
}  # fmt: skip


@dataclass(frozen=True)
class Maker:
    """One kind of cached thing, and all that it depends on.

    name: what it is, such as "students"; no two makers share a name.
    module: the dotted name of the module whose code makes it. What that module imports from ctd counts as well.
    inputs: the names of everything else that it depends on.
    """

    name: str
    module: str
    inputs: tuple[str, ...]

    ALL: ClassVar[dict[str, Maker]] = {}

    def __post_init__(self) -> None:
        if self.ALL.setdefault(self.name, self) != self:
            raise ValueError(f"there is another maker of {self.name}: {self.ALL[self.name]}")

    def key(self, **inputs: Any) -> str:
        """The key of what is made from these inputs, 32 hex digits.

        inputs: a value for each name in `inputs`; see `fingerprint` for what it may be.
        Raises TypeError where an input is missing or is not among `inputs`.
        """
        if inputs.keys() != set(self.inputs):
            raise TypeError(f"a key of {self.name} needs {', '.join(self.inputs)}, got {', '.join(inputs) or 'none'}")
        parts = [part for name in self.inputs for part in (name, fingerprint(inputs[name]))]
        return digest([self.name, source_digest(self.module), *parts])[:LENGTH]


@cache
def source_digest(module: str) -> str:
    """SHA-256 of the code of a module and of the ctd modules that it reaches, 64 hex digits.

    module: its dotted name.
    """
    return digest(part for name in sorted(reached(module)) for part in (name, _code(name)))


def reached(module: str) -> set[str]:
    """The dotted names of a module and of all ctd modules that its imports lead to.

    Imports under `if TYPE_CHECKING:` do not count, nor do the modules that are `NOT_COUNTED`.
    module: its dotted name.
    Raises ModuleNotFoundError for a module that is not in ctd.
    """
    modules, waiting = set[str](), [module]
    while waiting:
        if (name := waiting.pop()) not in modules | NOT_COUNTED:
            modules.add(name)
            waiting += _imports(name)
    return modules


def _path(module: str) -> Path:
    base = ROOT / Path(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not path.is_file():
        raise ModuleNotFoundError(f"there is no module {module} in {ROOT}")
    return path


def _exists(module: str) -> bool:
    base = ROOT / Path(*module.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


@cache
def _imports(module: str) -> tuple[str, ...]:
    modules = set[str]()
    for node in _walk(ast.parse(_path(module).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ctd":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules.update(name if _exists(name) else str(node.module) for name in names)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names if alias.name.split(".")[0] == "ctd")
    return tuple(modules)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node, but for what stands under `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _walk(child)


@cache
def _code(module: str) -> str:
    """A module's syntax tree as text, without docstrings."""
    tree = ast.parse(_path(module).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = [*node.body[1:]] or [ast.Pass()]
    return ast.dump(tree)


_known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # fingerprints of dataclasses that compare by identity


@singledispatch
def fingerprint(value: Any) -> str:
    """SHA-256 of a value by its content, 64 hex digits.

    value: a plain value, bytes, an array, a sparse matrix, a dataset, a dataclass, or a container of these; a path
        (the file's bytes, or the names and bytes of all files in the folder); or an object with a `key` of its own
        (a language model, an encoder).
    Raises TypeError for anything else.
    """
    key = getattr(value, "key", None)
    if isinstance(key, str) and key:
        return digest([type(value).__name__, key])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value)
    if hasattr(value, "column_names"):  # datasets.Dataset, not imported here: it takes a second
        return digest(part for name in value.column_names for part in (name, fingerprint(list(value[name]))))
    raise TypeError(f"a {type(value).__name__} cannot be part of a key: give its parts")


def _dataclass(value: Any) -> str:
    by_identity = type(value).__eq__ is object.__eq__
    if by_identity and value in _known:
        return _known[value]
    names = [field.name for field in dataclasses.fields(value)]
    parts = [part for name in names for part in (name, fingerprint(getattr(value, name)))]
    result = digest([type(value).__name__, *parts])
    if by_identity:
        _known[value] = result
    return result


@fingerprint.register(type(None))
@fingerprint.register(bool)
@fingerprint.register(int)
@fingerprint.register(float)
@fingerprint.register(str)
def _plain(value: Any) -> str:
    return digest([type(value).__name__, repr(value)])


@fingerprint.register(np.generic)
def _number(value: np.generic) -> str:
    return fingerprint(value.item())


@fingerprint.register(bytes)
def _bytes(value: bytes) -> str:
    return digest(["bytes", value])


@fingerprint.register(Path)
def _files(value: Path) -> str:
    files = sorted(file for file in value.rglob("*") if file.is_file()) if value.is_dir() else [value]
    return digest(
        ["path", *(part for file in files for part in (file.relative_to(value).as_posix(), file_digest(file)))]
    )


@fingerprint.register(np.ndarray)
def _array(value: np.ndarray) -> str:
    if value.dtype.hasobject:
        return digest(["array", str(value.shape), *map(fingerprint, value.ravel().tolist())])
    return digest(["array", str(value.dtype), str(value.shape), np.ascontiguousarray(value).tobytes()])


@fingerprint.register(csr_matrix)
def _sparse(value: csr_matrix) -> str:
    return digest(["csr", str(value.shape), *map(fingerprint, (value.indptr, value.indices, value.data))])


@fingerprint.register(list)
@fingerprint.register(tuple)
def _sequence(value: Sequence[Any]) -> str:
    if _is_plain(value):  # label texts by the hundred thousand, token ids by the million
        return digest(["sequence", hashlib.sha256(json.dumps(value).encode()).digest()])
    return digest(["sequence", *map(fingerprint, value)])


def _is_plain(value: Sequence[Any]) -> bool:
    """Whether JSON tells a sequence from any other one."""
    return all(type(part) in (str, int, float) or (type(part) in (list, tuple) and _is_plain(part)) for part in value)


@fingerprint.register(set)
@fingerprint.register(frozenset)
def _set(value: set[Any]) -> str:
    return digest(["set", *sorted(map(fingerprint, value))])


@fingerprint.register(dict)
def _mapping(value: Mapping[Any, Any]) -> str:
    return digest(["mapping", *sorted(map(fingerprint, value.items()))])
