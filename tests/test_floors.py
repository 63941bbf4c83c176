"""The rooms of the package: what a module may import, and the picture of it in CONTRIBUTING.md."""

import ast

import pytest

from ctd.cache import ROOT

FLOORS = (
    ("cache", "int8_matmul", "progress", "stats", "text"),  # the ground floor, where each stands on its own
    ("cache_room", "hardware", "keys", "payload", "ray_cluster"),
    ("workers",),
    ("data",),
    ("retrieval",),
    ("reasoning",),
    ("mechanism",),
    ("distill",),
    ("recipes",),
    ("book",),
    ("api",),
    ("cli",),
)
GROUND = 3  # floors that the picture shows as one
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "ctd").rglob("*.py"))
}


def imported(path):
    """The modules of ctd that a module imports, wherever in it (for types alone too)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "ctd":
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from (name if name in MODULES else node.module for name in whole)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ctd")


def room(module):
    return module.split(".")[1] if "." in module else "ctd"


IMPORTS = {module: set(imported(path)) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", [module for module in MODULES if module != "ctd"])
def test_a_module_imports_from_its_own_floor_or_those_below(module):
    upwards = {other for other in IMPORTS[module] if FLOOR[room(other)] > FLOOR[room(module)]}
    assert upwards == set()
    level = {other for other in IMPORTS[module] if FLOOR[room(other)] == FLOOR[room(module)]}
    assert {room(other) for other in level} <= {room(module)}


def test_no_module_imports_itself_in_a_circle():
    left = {module: others - {module} for module, others in IMPORTS.items()}
    while free := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in free}
    assert left == {}


def missing(path):
    """What a script imports from ctd that is not there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            defined = ast.walk(ast.parse(MODULES[node.module].read_text()))
            there = {getattr(part, "name", None) or getattr(part, "id", None) for part in defined}
            yield from {f"{node.module}.{alias.name}" for alias in node.names if alias.name not in there} - set(MODULES)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path):
    assert list(missing(path)) == []


def test_an_import_that_is_not_there_is_noticed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from ctd.text import nothing, words\nfrom ctd.book import report\n")
    assert list(missing(script)) == ["ctd.text.nothing"]


def drawing():
    """The package's rooms as a Mermaid flowchart: an arrow from each room to those that it imports."""
    ground = [name for floor in FLOORS[:GROUND] for name in floor]

    def shown(module):
        return "ground" if room(module) in ground else room(module)

    arrows = {
        (shown(module), shown(other)) for module, others in IMPORTS.items() if module != "ctd" for other in others
    }
    order = ["cli", *(name for floor in reversed(FLOORS[GROUND:-1]) for name in floor), "ground"]
    lines = [f"    {package}[{package}]" for package in order[:-1]] + [f"    ground[{', '.join(ground)}]"]
    lines += [
        f"    {package} --> {other}"
        for package in order
        for other in order
        if package != other and (package, other) in arrows
    ]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def test_the_picture_in_contributing_is_drawn_from_the_imports():
    assert drawing() in (ROOT / "CONTRIBUTING.md").read_text(), (
        "the picture of the rooms is out of date: python -m tests.test_floors prints it as it is now"
    )


if __name__ == "__main__":
    print(drawing())
