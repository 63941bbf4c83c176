"""The parameters of a notebook: their types, meaning and bounds, from annotated pydantic fields, and values checked.

Notes: numbers must have bounds. Everything is checked before a kernel starts.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
)
from pydantic.fields import FieldInfo

RENAMED = {"words": "base_losses"}  # old names, for one version
TYPES = {"boolean": "bool", "integer": "int", "number": "float", "string": "str"}
PATHS = ("path", "path or name")
SEED_LIMIT = 2**32 - 1  # the largest that numpy and PYTHONHASHSEED both take
MOST_VALUES = 1_000_000  # of a YAML text


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook.

    name: as in its line.
    type: bool, int, float, str or a list of one of these.
    default: the value in the cell.
    help: what it means.
    bound: such as "1 to 9", "one of: a, b", "each 1 to 9", "path"; "" for none.
    adapter: pydantic's check of a value.
    """

    name: str
    type: str
    default: Any
    help: str
    bound: str
    adapter: TypeAdapter

    @property
    def is_path(self) -> bool:
        return self.bound in PATHS

    @property
    def comment(self) -> str:
        """Meaning and bound, as a reader finds them beside the line."""
        return f"{self.help}; {self.bound}" if self.bound else self.help

    @property
    def rule(self) -> str:
        """What a value must be, as the end of a sentence that starts "must be"."""
        scalar = self.type.removeprefix("list[").removesuffix("]")
        kind = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}[scalar]
        if self.type != scalar:
            each = f", each {within(self.bound.removeprefix('each '))}" if self.bound else f", each {kind}"
            return f"a list such as {self.default}, not empty{each}"
        if self.is_path:
            return f"an existing {self.bound}, or empty for none"
        return within(self.bound) if self.bound.startswith("one of:") else f"{kind} {within(self.bound)}".strip()

    def check(self, value: Any) -> Any:
        """The value as the notebook will get it: floats made of whole numbers, paths absolute.

        Raises ValueError with one line when it has another type or breaks the bound.
        """
        if self.is_path and value == self.default:
            return value  # "minilm" is the name, even beside a folder called minilm
        try:
            if isinstance(value, bool) and self.type != "bool":  # True is 1 for a Literal
                raise ValueError("not a number")
            return self.adapter.validate_python(value, strict=True)
        except ValueError:
            raise ValueError(f"{self.name} must be {self.rule}, got {value!r}") from None

    def parse(self, text: str) -> Any:
        """The value that a text from the command line means: YAML, but text stays text where text is asked for.

        One value where a list is asked for is a list of one.
        """
        if self.type == "list[str]" and text.strip()[:1] != "[":
            return [text]
        value = read_yaml(text, f"-p {self.name}")
        if self.type.startswith("list[") and isinstance(value, int | float):
            return [value]
        return text if self.type == "str" and not isinstance(value, str) else value


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as a number (YAML 1.1 wants 1.0e-4), and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} stands twice; keep one", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str, source: str) -> Any:
    """YAML text as Python values. Raises ValueError with one line that names the source when it is not YAML."""
    try:
        value = yaml.load(text, _Loader)
        if _size(value, {}) > MOST_VALUES:
            raise ValueError(f"its aliases unfold to more than {MOST_VALUES:,} values")
        return value
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ValueError(f"{source}{place}: not YAML ({reason})") from None
    except Exception as error:  # the library stumbles over impossible dates, tags that do not fit, ...
        raise ValueError(f"{source}: not YAML ({' '.join(str(error).split()) or type(error).__name__})") from None


def _size(value: Any, sizes: dict[int, int]) -> int:
    """How many values a value holds, each as often as aliases name it.

    sizes: those of the lists and mappings that were met, by their identity; 0 while one is counted.
    Raises ValueError for a value that holds itself.
    """
    if not isinstance(value, dict | list):
        return 1
    if sizes.get(id(value)) == 0:
        raise ValueError("a value holds itself")
    if id(value) not in sizes:
        sizes[id(value)] = 0
        parts = value.values() if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(value)]


def read_yaml_file(file: Path) -> Any:
    """What a YAML file holds. Raises ValueError with one line that names the file when it is not YAML."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: byte {error.start + 1} is not UTF-8: save the file as UTF-8") from None
    return read_yaml(text, str(file))


def within(bound: str) -> str:
    """A bound as words: `1 to 9` becomes "between 1 and 9"."""
    low, to, high = bound.partition(" to ")
    return bound if bound.startswith("one of:") or not to else f"between {low.strip()} and {high.strip()}"


def near(name: str, names: Iterable[str]) -> str:
    """A hint at the end of a complaint: the name nearest in spelling, or nothing."""
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""


def fields(model: type[BaseModel]) -> dict[str, Any]:
    """{name: annotated type} of a model: groups in the order in which it names them, then its own fields, seed last."""
    names: list[str] = []
    for base in model.__bases__:
        names += fields(base) if issubclass(base, BaseModel) else ()
    names += inspect.get_annotations(model)
    names = [name for name in names if name in model.model_fields]
    ordered = sorted(dict.fromkeys(names), key=lambda name: name == "seed")
    infos = {name: model.model_fields[name] for name in ordered}
    return {name: Annotated[info.annotation, info] for name, info in infos.items()}


def parameters_of_model(model: type[BaseModel]) -> dict[str, Parameter]:
    """The parameters of a model, with its defaults."""
    return {name: parameter_of(name, hint, model.model_fields[name].default) for name, hint in fields(model).items()}


def parameter_of(name: str, hint: Any, default: Any) -> Parameter:
    """A parameter of an annotated type. Raises ValueError when meaning or bounds are missing or do not fit."""
    try:
        schema = TypeAdapter(hint).json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError, TypeError) as error:
        raise ValueError(f"the type is not understood ({str(error).splitlines()[0]})") from None
    type_, bound = _type_and_bound(schema)
    meaning = FieldInfo.from_annotation(hint).description
    if not meaning:
        raise ValueError("the description must say what the parameter means")
    if bound == "path" and default != "":
        raise ValueError('the default of a path must be "" (none): others have other folders')
    if name == "seed" and not (type_ == "int" and schema["minimum"] >= 0 and schema["maximum"] <= SEED_LIMIT):
        raise ValueError(f"seed must be an int with bounds within 0 to {SEED_LIMIT}")
    adapter = TypeAdapter(Annotated[hint, Field(min_length=1)] if schema["type"] == "array" else hint)
    parameter = Parameter(name, type_, default, meaning, bound, adapter)
    parameter.check(default)
    return parameter


def _type_and_bound(schema: Mapping[str, Any]) -> tuple[str, str]:
    """The type of a JSON schema as Python spells it, and the bound that it sets, in words."""
    kind = schema.get("type")
    if kind == "array":
        type_, bound = _type_and_bound(schema["items"])
        if bound in PATHS:
            raise ValueError("a list of paths is not supported; use one path to a folder")
        return f"list[{type_}]", f"each {bound}" if bound else ""
    if kind not in TYPES:
        raise ValueError(f"the type must be one of {', '.join(TYPES.values())} or a list of these")
    choices = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if choices:
        return TYPES[kind], f"one of: {', '.join(map(str, choices))}"
    if kind not in ("integer", "number"):
        return TYPES[kind], schema.get("format", "")
    if not {"minimum", "maximum"} <= schema.keys():
        raise ValueError(f"a bound is missing; {TYPES[kind]} takes `ge=LOW, le=HIGH` in its Field, or a Literal")
    bound = f"{_number(schema['minimum'])} to {_number(schema['maximum'])}"
    if schema["minimum"] > schema["maximum"]:
        raise ValueError(f"the bound `{bound}` does not fit")
    return TYPES[kind], bound


def _number(value: float) -> str:
    """A number without an exponent: 0.0000001, 1000000."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def check_all(
    parameters: Mapping[str, Parameter], values: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], list[str]]:
    """Checked values of the known names, and every complaint, each opening with `source`."""
    checked, problems = {}, []
    for name, value in values.items():
        if name not in parameters:
            problems.append(f"{source}: no parameter {name}{near(name, parameters)}")
            continue
        try:
            checked[name] = parameters[name].check(value)
        except ValueError as error:
            problems.append(f"{source}: {error}")
    return checked, problems


def _renamed(name: str, parameters: Mapping[str, Parameter]) -> str:
    """The name that a parameter has now. A warning on stderr says so where it was given by its old one."""
    new = RENAMED.get(name, name)
    if name in parameters or new not in parameters or new == name:
        return name
    print(f"warning: -p {name} is now -p {new}; the old name goes with the next version", file=sys.stderr)
    return new


def parse_assignments(parameters: Mapping[str, Parameter], assignments: Sequence[str]) -> dict[str, Any]:
    """Values of `name=value` texts. An unknown name is kept, for `check_all` to complain of with the others.

    Raises ValueError for a text without `=` or a name given twice.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"-p takes name=value, got {assignment!r}")
        name = _renamed(name, parameters)
        if name in values:
            raise ValueError(f"-p {name} is given twice")
        values[name] = parameters[name].parse(text) if name in parameters else text
    return values
