"""The parameters cell of a notebook: read, and written from a chapter's model.

Notes: a parameter is one line, `name: type = default`. A notebook of the book imports its model of `ctd.book.chapters`
as `Settings` in one of its cells, and each line names a field of it. Any other notebook says the same on the line
itself: `n: Annotated[int, Field(ge=1, le=9, description="how many")] = 5`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from ctd.book import chapters, settings
from ctd.book.parameters import Parameter, fields, near, parameter_of, parameters_of_model
from ctd.book.settings import ExistingPath, PathOrName

if TYPE_CHECKING:
    from nbformat import NotebookNode

MODEL = re.compile(rf"^from {re.escape(chapters.__name__)} import (\w+) as Settings$", re.MULTILINE)  # in a notebook
TAG = "parameters"
WORDS: dict[str, Any] = {
    "Annotated": Annotated, "Literal": Literal, "ExistingPath": ExistingPath, "PathOrName": PathOrName,
    "list": list, "bool": bool, "int": int, "float": float, "str": str,
}  # fmt: skip
EXAMPLE = 'n: Annotated[int, Field(ge=1, le=9, description="how many")] = 5'


def cell_source(model: type[BaseModel]) -> str:
    """The parameters cell of a chapter, before `ruff format`."""
    return "\n".join(
        f"{parameter.name}: {parameter.type} = {parameter.default!r}  # {parameter.comment}"
        for parameter in parameters_of_model(model).values()
    )


def read_parameters(notebook: NotebookNode, source: str) -> dict[str, Parameter]:
    """The parameters that a notebook declares, in order.

    notebook: read by nbformat.
    source: how complaints name it.
    Raises ValueError when there is not exactly one cell tagged `parameters`, when the notebook names a model that there
        is not, or, with every offending line, when a line lacks meaning or bounds, when a default breaks its own bound,
        or when there is no `seed`.
    """
    cells = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", ())]
    if len(cells) != 1 or cells[0].cell_type != "code":
        raise ValueError(f"{source} must have exactly 1 code cell tagged '{TAG}', got {len(cells)}")
    text = cells[0].source
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f"{source}: the {TAG} cell is not Python ({error})") from None

    known = _fields_of_model(notebook, source)
    parameters: dict[str, Parameter] = {}
    problems = []
    for statement in statements:
        try:
            if isinstance(statement, ast.ImportFrom):
                _require_types(statement)
                continue
            parameter = _declared(statement, known)
            if parameter.name in parameters:
                raise ValueError(f"{parameter.name} is declared twice")
            parameters[parameter.name] = parameter
        except ValueError as error:
            line = text.splitlines()[statement.lineno - 1].strip()
            problems.append(f"line {statement.lineno} `{line}`: {error}")
    if "seed" not in parameters and not problems:
        seed = EXAMPLE.replace("n:", "seed:").replace("ge=1, le=9", "ge=0, le=1000000").replace("how many", "draws")
        problems.append(f"it needs a line such as `{seed}`")
    if problems:
        raise ValueError("\n  ".join([f"{source}: the {TAG} cell is refused:", *problems]))
    return parameters


def _fields_of_model(notebook: NotebookNode, source: str) -> dict[str, Any]:
    """The fields of the model that a cell imports as `Settings`; {} where none does."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    name = match[1] if (match := MODEL.search(code)) else None
    model = getattr(chapters, name, None) if name else BaseModel
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ValueError(f"{source}: {chapters.__name__} has no model {name}{near(str(name), vars(chapters))}")
    return fields(model)


def _require_types(statement: ast.ImportFrom) -> None:
    """Raise ValueError for an import that the lines below it do not need."""
    if statement.module not in ("typing", "pydantic", settings.__name__) and not MODEL.match(ast.unparse(statement)):
        raise ValueError(f"a {TAG} cell imports only types, or `from {chapters.__name__} import ... as Settings`")


def _declared(statement: ast.stmt, known: Mapping[str, Any]) -> Parameter:
    """One line of the parameters cell. Raises ValueError with what is wrong about it."""
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        raise ValueError("every line must read `name: type = default`")
    name, annotation = statement.target.id, ast.unparse(statement.annotation)
    if statement.value is None:
        raise ValueError("it needs a default")
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        raise ValueError("the default must be a plain value: a number, text, true or false, or a list") from None
    if annotation.startswith("Annotated["):
        hint = _evaluated(annotation)
    elif name in known:
        hint = known[name]
    else:
        raise ValueError(f"nothing says what it means and may be{near(name, known)}; write it as `{EXAMPLE}`")
    parameter = parameter_of(name, hint, default)
    if not annotation.startswith("Annotated[") and annotation != parameter.type:
        raise ValueError(f"the type of {name} is {parameter.type}, got {annotation}")
    return parameter


def _evaluated(annotation: str) -> Any:
    """The type that a line spells out in `WORDS`. Nothing of it is run: a notebook may be a stranger's."""
    try:
        return _type(ast.parse(annotation, mode="eval").body)
    except Exception as error:
        raise ValueError(f"the type is not understood ({error}); write it as `{EXAMPLE}`") from None


def _type(node: ast.expr) -> Any:
    match node:
        case ast.Name(id=name):
            if name not in WORDS:
                raise ValueError(f"{name} is none of {', '.join(WORDS)}")
            return WORDS[name]
        case ast.Subscript(value=head, slice=inner):
            return _type(head)[_type(inner)]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _type(left) | _type(right)
        case ast.Tuple(elts=parts):
            return tuple(map(_type, parts))
        case ast.Call(func=ast.Name(id="Field"), args=[], keywords=keywords):
            return Field(**{str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords})
        case _:
            return ast.literal_eval(node)
