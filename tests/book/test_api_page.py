"""The API reference is made of the docstrings, of the ten names in full."""

import ast
import re

import ctd
from ctd.book import api_page

PAGE = api_page.api_page()


def test_the_ten_names_stand_there_with_their_arguments():
    assert set(api_page.LIBRARY) == set(ctd.__all__)
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert headings[:10] == [f"ctd.{name}" for name in api_page.LIBRARY]
    part = PAGE.partition("## ctd.reason\n")[2].partition("\n## ")[0]
    assert "ctd.reason(\n    teacher: Teacher,\n    documents: Sequence[str],\n" in part
    assert "    request: Request = Request(),\n    *,\n" in part
    assert "- `max_tokens`: written about a document at most." in part


def test_the_docstrings_are_those_of_the_objects_themselves():
    for name in ("evaluate", "patch", "reason", "load_task"):
        first = getattr(ctd, name).__doc__.partition("\n")[0]
        assert first.replace("`", "") in PAGE.replace("`", "")


def test_every_package_has_its_modules():
    for module in ("ctd.data.documents", "ctd.retrieval.metrics", "ctd.mechanism.patching", "ctd.book.api_page"):
        assert f"<summary><code>{module}</code></summary>" in PAGE
    assert PAGE.count("<details ") == PAGE.count("</details>") == len(re.findall("^</details>$", PAGE, re.MULTILINE))


def test_a_docstring_becomes_a_list_and_brackets_are_harmless():
    text = "Do it [now].\n\nx: of [a, b],\n    longer.\ny, z: more.\nRaises ValueError for `x[0]`."
    assert api_page.docstring(text) == (
        "Do it \\[now\\].\n\n\n- `x`: of \\[a, b\\],\n  longer.\n- `y, z`: more.\n\nRaises ValueError for `x[0]`.\n"
    )


def test_arguments_are_shown_as_they_are_written():
    code = (
        "def f(self, a: dict[str, int], /, b: str = 'x, y', *rest: int, c: Callable[[int], int] = f(1, 2), **more): ..."
    )
    parts = api_page._parameters(ast.parse(code).body[0].args)
    assert parts == [
        "a: dict[str, int]",
        "b: str = 'x, y'",
        "*rest: int",
        "c: Callable[[int], int] = f(1, 2)",
        "**more",
    ]
