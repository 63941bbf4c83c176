"""What a notebook may be asked: its parameters cell, read as a schema and enforced.

Notes: a parameter is one line, `name: type = default  # help; bound`. Bounds are `LOW to HIGH`, `one of: A, B`,
`each BOUND` (for lists), `path` and `path or name` (text that is a path when there is one); numbers must have one.
Everything here is decided before a kernel starts.
"""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from nbformat import NotebookNode

PATHS = ("path", "path or name")
TAG = "parameters"
SCALARS = {"bool": bool, "int": int, "float": float, "str": str}
SEED_LIMIT = 2**32 - 1  # the largest that numpy and PYTHONHASHSEED both take


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, annotation, default, help, bound as written ("" for none), and how to check it."""

    name: str
    annotation: str
    default: Any
    help: str
    bound: str
    adapter: TypeAdapter

    @property
    def is_path(self) -> bool:
        return self.bound in PATHS

    @property
    def rule(self) -> str:
        """What a value must be, as the end of a sentence that starts "must be"."""
        scalar = self.annotation.removeprefix("list[").removesuffix("]")
        kind = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}[scalar]
        if self.annotation != scalar:
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
            return self.adapter.validate_python(value, strict=True)
        except ValidationError:
            raise ValueError(f"{self.name} must be {self.rule}, got {value!r}") from None

    def parse(self, text: str) -> Any:
        """The value that a text from the command line means: YAML, but text stays text where text is asked for."""
        value = read_yaml(text, f"-p {self.name}")
        return text if self.annotation == "str" and not isinstance(value, str) else value


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as a number (YAML 1.1 wants 1.0e-4)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str, source: str) -> Any:
    """YAML text as Python values. Raises ValueError with one line that names the source when it is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{source}{place}: not YAML ({getattr(error, 'problem', None) or error})") from None


def within(bound: str) -> str:
    """A bound as words: `1 to 9` becomes "between 1 and 9"."""
    low, to, high = bound.partition(" to ")
    return bound if bound.startswith("one of:") or not to else f"between {low.strip()} and {high.strip()}"


def near(name: str, names: Iterable[str]) -> str:
    """A hint at the end of a complaint: the name nearest in spelling, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def table(parameters: Mapping[str, Parameter]) -> str:
    """The parameters as lines of text: name, type, default, bound, help."""
    lines = []
    for parameter in parameters.values():
        bound = f", {parameter.bound}" if parameter.bound else ""
        lines.append(f"  {parameter.name}: {parameter.annotation} = {parameter.default!r}{bound}  ({parameter.help})")
    return "\n".join(lines)


def read_parameters(notebook: NotebookNode, source: str) -> dict[str, Parameter]:
    """The parameters that a notebook declares, in order; `source` names it in complaints.

    Raises ValueError when there is not exactly one cell tagged `parameters`, or, with every offending line, when a
    line lacks annotation, help or bound, when a default breaks its own bound, or when there is no `seed`.
    """
    cells = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", ())]
    if len(cells) != 1 or cells[0].cell_type != "code":
        raise ValueError(f"{source} must have exactly 1 code cell tagged '{TAG}', got {len(cells)}")
    text = cells[0].source
    try:
        statements = ast.parse(text).body
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{source}: the {TAG} cell is not Python ({error})") from None
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}

    found: dict[str, Parameter] = {}
    problems = []
    for statement in statements:
        try:
            parameter = _parameter(statement, comments.get(statement.end_lineno or 0, ""))
            if parameter.name in found:
                raise ValueError(f"{parameter.name} is declared twice")
            found[parameter.name] = parameter
        except ValueError as error:
            line = text.splitlines()[statement.lineno - 1].strip()
            problems.append(f"line {statement.lineno} `{line}`: {error}")
    if "seed" not in found and not problems:
        problems.append("it needs a line such as `seed: int = 0  # draws; 0 to 1000000`")
    if problems:
        raise ValueError("\n  ".join([f"{source}: the {TAG} cell is refused:", *problems]))
    return found


def _parameter(statement: ast.stmt, comment: str) -> Parameter:
    """One line of the parameters cell. Raises ValueError with what is wrong about it."""
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        raise ValueError("every line must read `name: type = default  # help; bound`")
    name, annotation = statement.target.id, ast.unparse(statement.annotation)
    described, semicolon, bound = (part.strip() for part in comment.rpartition(";"))
    if not semicolon:
        described, bound = bound, ""
    if not described:
        raise ValueError("the comment must say what the parameter means")
    if statement.value is None:
        raise ValueError("it needs a default")
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        raise ValueError("the default must be a plain value: a number, text, true or false, or a list") from None
    parameter = Parameter(name, annotation, default, described, bound, TypeAdapter(_type(annotation, bound)))
    if name == "seed":
        whole = re.fullmatch(r"(\d+) to (\d+)", bound)
        if annotation != "int" or not whole or int(whole[2]) > SEED_LIMIT:
            raise ValueError(f"seed must be an int with a bound within 0 to {SEED_LIMIT}")
    if bound == "path" and default != "":
        raise ValueError('the default of a path must be "" (none): others have other folders')
    parameter.check(default)
    return parameter


def _type(annotation: str, bound: str) -> Any:
    """The pydantic type of an annotation under its bound. Raises ValueError when the two do not fit."""
    if listed := re.fullmatch(r"list\[(\w+)\]", annotation):
        each = bound.removeprefix("each ")
        if bound and each == bound:
            raise ValueError(f"the bound of a list must begin with `each`, got `{bound}`")
        if each in PATHS:
            raise ValueError("a list of paths is not supported; use one path to a folder")
        return Annotated[list[_type(listed[1], each)], Field(min_length=1)]  # type: ignore[misc]
    kind = SCALARS.get(annotation)
    if kind is None:
        raise ValueError(f"the type must be one of {', '.join(SCALARS)} or a list of these, got {annotation}")
    number = kind in (int, float)
    try:
        if bound.startswith("one of:") and kind is not bool:
            choices = tuple(kind(choice.strip()) for choice in bound.removeprefix("one of:").split(","))
            return Annotated[kind, AfterValidator(partial(_among, choices))]
        if number and (ends := re.fullmatch(r"(\S+) to (\S+)", bound)) and kind(ends[1]) <= kind(ends[2]):
            return Annotated[kind, Field(ge=kind(ends[1]), le=kind(ends[2]))]
    except ValueError:
        pass
    if bound in PATHS and kind is str:
        return Annotated[str, AfterValidator(_path if bound == "path" else _path_or_name)]
    if number or bound:
        takes = {bool: "none", str: "`one of: A, B`, `path`, `path or name` or none"}.get(
            kind, "`LOW to HIGH` or `one of: A, B`"
        )
        wrong = f"the bound `{bound}` does not fit" if bound else "a bound is missing"
        raise ValueError(f"{wrong}; {annotation} takes {takes}")
    return kind


def _among(choices: tuple[Any, ...], value: Any) -> Any:
    if value not in choices:
        raise ValueError("not one of the choices")
    return value


def _path(text: str) -> str:
    if text and not Path(text).expanduser().exists():
        raise ValueError("no such path")
    return str(Path(text).expanduser().resolve()) if text else ""


def _path_or_name(text: str) -> str:
    """A path when there is one; a text that can only be a path must be one."""
    return _path(text) if text.startswith(("/", "./", "../", "~")) or Path(text).exists() else text


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
        if name in values:
            raise ValueError(f"-p {name} is given twice")
        values[name] = parameters[name].parse(text) if name in parameters else text
    return values
