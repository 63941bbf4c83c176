"""The API reference of the book, read from the source: the ten names in full, and every public name in a line.

Notes: docstrings follow one form: a summary, then a line for each argument as `name: meaning`, then what is returned
and raised. Nothing is imported to read them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ctd.book.markdown import table
from ctd.cache import ROOT

PAGE = "api"
Definition = ast.FunctionDef | ast.ClassDef
LIBRARY = {  # where each of the ten names is defined, and its name there
    "load_task": ("ctd/data/readers/__init__.py", "load"),
    "LabelIndex": ("ctd/retrieval/index.py", "LabelIndex"),
    "load_model": ("ctd/reasoning/teachers.py", "load"),
    "reason": ("ctd/reasoning/predict.py", "reason"),
    "evaluate": ("ctd/api.py", "evaluate"),
    "explain": ("ctd/api.py", "explain"),
    "score_heads": ("ctd/api.py", "score_heads"),
    "patch": ("ctd/api.py", "patch"),
    "distill": ("ctd/distill/export.py", "distill"),
    "claims": ("ctd/api.py", "claims"),
}
ALSO = {"Predictor": ("ctd/reasoning/predictor.py", "Predictor")}
PACKAGES = ("data", "retrieval", "reasoning", "mechanism", "distill", "recipes", "book")
INTRO = """# API reference

Generated from the docstrings. `import ctd` gives ten names; each loads what it needs when it is first used. What the
notebooks call besides is listed by module below: unfold a module to see its names.
"""


def api_page() -> str:
    """The page as Markdown."""
    parts = [INTRO]
    for name, (file, defined) in (LIBRARY | ALSO).items():
        shown = f"ctd.{name}" if name in LIBRARY else f"{_module(ROOT / file)}.{name}"
        names = _public(ast.parse((ROOT / file).read_text(encoding="utf-8")).body)
        parts.append(_entry(shown, next(node for node in names if node.name == defined)))
    for package in PACKAGES:
        parts.append(f"## ctd.{package}\n")
        parts += [_module_table(file) for file in sorted((ROOT / "ctd" / package).rglob("*.py"))]
    return "\n".join(part for part in parts if part)


def _entry(shown: str, node: Definition) -> str:
    """One name: its signature, its docstring, and the public methods of a class."""
    text = [f"## {shown}\n", _signature(shown, node), docstring(ast.get_docstring(node) or "")]
    for method in _public(node.body) if isinstance(node, ast.ClassDef) else ():
        text.append(_signature(f".{method.name}", method) + "\n" + docstring(ast.get_docstring(method) or ""))
    return "\n".join(text)


def docstring(text: str) -> str:
    """A docstring as Markdown: arguments as a list, code as code.

    text: dedented, as `ast.get_docstring` gives it.
    """
    lines: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"(\w+(?:, \w+)*): (.*)", line):
            names, meaning = match.groups()
            fresh = [] if lines and lines[-1].startswith(("- ", "  ")) else [""]
            lines += [*fresh, f"- `{names}`: {_safe(meaning)}"]
        elif line.startswith("    ") and lines and lines[-1].startswith(("- ", "  ")) and line.strip():
            lines.append(f"  {_safe(line.strip())}")
        elif lines and lines[-1].startswith(("- ", "  ")) and line.strip():
            lines += ["", _safe(line)]
        else:
            lines.append(line if line.startswith("    ") else _safe(line))
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    """Text in which brackets, dollars and angles outside code mean nothing to Markdown."""
    parts = text.split("`")
    plain = [re.sub(r"([\[\]<>$*_{}])", r"\\\1", part) if place % 2 == 0 else part for place, part in enumerate(parts)]
    return "`".join(plain)


def _module_table(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    rows = [[f"`{node.name}`", _safe(_first_line(ast.get_docstring(node)))] for node in _public(tree.body)]
    if not rows:
        return ""
    summary = _safe(_first_line(ast.get_docstring(tree)))
    names = table(["name", "what it does"], rows)
    fold = f'<details class="ctd-fold"><summary><code>{_module(file)}</code></summary>'
    return f"{fold}\n\n{summary}\n\n{names}\n\n</details>\n"


def _public(body: list[ast.stmt]) -> Iterator[Definition]:
    """The public functions and classes that have a docstring."""
    for node in body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node)
        ):
            yield node


def _signature(shown: str, node: Definition) -> str:
    """A name with its arguments or fields, each on a line of its own where they are long."""
    if isinstance(node, ast.ClassDef):
        assigned = [field for field in node.body if isinstance(field, ast.AnnAssign)]
        arguments, returns = [ast.unparse(field) for field in assigned], ""
    elif any(getattr(decorator, "id", "").endswith("property") for decorator in node.decorator_list):
        return f"```text\n{shown}: {ast.unparse(node.returns) if node.returns else 'Any'}\n```\n"
    else:
        arguments = _parameters(node.args)
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    whole = f"{shown}({', '.join(arguments)}){returns}"
    if len(whole) > 80:
        whole = "\n".join([f"{shown}(", *(f"    {argument}," for argument in arguments), f"){returns}"])
    return f"```text\n{whole}\n```\n"


def _parameters(arguments: ast.arguments) -> list[str]:
    """The arguments of a function as they are written, without self."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    parts = [_parameter(*pair) for pair in zip(positional, defaults, strict=True) if pair[0].arg not in ("self", "cls")]
    if arguments.vararg or arguments.kwonlyargs:
        parts.append(f"*{ast.unparse(arguments.vararg)}" if arguments.vararg else "*")
    parts += [_parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [*parts, f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else parts


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _first_line(text: str | None) -> str:
    """The summary of a docstring: its first paragraph."""
    return " ".join((text or "").partition("\n\n")[0].split())
