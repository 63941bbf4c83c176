"""Runs on disk that are not as they were written."""

# ruff: noqa: E501 (a case stands on a line, like the row of a table)
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.bad_input.case import Case

RUN = "runs/01_first/default"
ROWS = [{"metric": "double", "unit": "labels", "value": 4}]
MANIFEST: dict[str, Any] = {
    "notebook": "notebooks/01_first.ipynb", "profile": "default", "overrides": {}, "seed": 0, "commit": "0" * 40,
    "dirty": False, "start": "2026-01-01T00:00:00+00:00", "duration_s": 1.0, "notebook_hash": "a", "parameters": {"n": 2},
    "ctd_hash": "b", "inputs_hash": "c", "key": "d", "versions": {}, "hardware": {"cpu": "x", "cores": 1, "gpu": ""},
    "peak_memory_mib": 1, "code_cells": 1,
}  # fmt: skip


def write_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "results.json").write_text(json.dumps({"schema": 2, "rows": ROWS}))


def changed(**files: str | bytes | None):
    """Writes the run with other contents of its files, `manifest` and `results`; None: without it."""

    def write(folder: Path) -> None:
        shutil.copytree("shared/runs/01_first/default", folder)
        for name, content in files.items():
            (folder / f"{name}.json").unlink()
            if content is not None:
                (folder / f"{name}.json").write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def without(name: str) -> str:
    return json.dumps({key: value for key, value in MANIFEST.items() if key != name})


def rows(*entries: Any, **more: Any) -> str:
    return json.dumps({"schema": 2, "rows": list(entries)} | more)


AGAIN = "run the notebook again with --force"
DAMAGED = {
    "a manifest cut short": ({"manifest": '{"notebook": "no'}, ("manifest.json is not JSON", AGAIN)),
    "an empty manifest": ({"manifest": ""}, ("manifest.json is not JSON", AGAIN)),
    "a manifest of bytes": ({"manifest": b"\xff\xfe{}"}, ("manifest.json", AGAIN)),
    "a list for a manifest": ({"manifest": "[]"}, ("manifest.json is not whole", AGAIN)),
    "a manifest without its notebook": ({"manifest": without("notebook")}, ("manifest.json is not whole .no 'notebook'", AGAIN)),
    "a start that is a number": ({"manifest": json.dumps(MANIFEST | {"start": 5})}, ("manifest.json is not whole .'start' is of another kind", AGAIN)),
    "parameters that are a list": ({"manifest": json.dumps(MANIFEST | {"parameters": []})}, ("manifest.json is not whole .'parameters' is of another kind", AGAIN)),
    "no results": ({"results": None}, ("results.json",)),
    "results cut short": ({"results": '{"schema": 2, "rows": [{"met'}, ("results.json is not JSON", AGAIN)),
    "results of bytes": ({"results": b"\x00\xff"}, ("results.json", AGAIN)),
    "a list for results": ({"results": "[]"}, ("results.json", AGAIN)),
    "results of another schema": ({"results": rows(schema=1)}, ("results.json has results of schema 1", "schema 2", AGAIN)),
    "results without rows": ({"results": '{"schema": 2}'}, ("results.json is not whole", AGAIN)),
    "rows that are words": ({"results": rows("a")}, ("results.json is not whole", AGAIN)),
    "a row without its unit": ({"results": rows({"metric": "a", "value": 1})}, ("results.json is not whole", "unit", AGAIN)),
    "a row with a stranger": ({"results": rows({**ROWS[0], "colour": "red"})}, ("results.json is not whole", "colour", AGAIN)),
    "a value that is a list": ({"results": rows({**ROWS[0], "value": []})}, ("results.json is not whole", "a value must be", AGAIN)),
    "a value that is not finite": (
        {"results": rows(ROWS[0]).replace("4}", "NaN}")}, ("results.json is not whole", "must be finite", AGAIN),
    ),
    "an interval that says nothing": ({"results": rows({**ROWS[0], "interval": [1, 2]})}, ("results.json is not whole", AGAIN)),
}  # fmt: skip

CASES = [
    *(Case(f"show: {name}", f"show {RUN}", says, {RUN: changed(**files)}) for name, (files, says) in DAMAGED.items()),
    *(
        Case(f"{verb}: {name}", words, DAMAGED[name][1], {RUN: changed(**DAMAGED[name][0])})
        for verb, words in (
            ("compare", f"compare shared/{RUN} {RUN}"), ("keep", f"keep {RUN} mine"),
            ("take as golden", f"validate --write-golden {RUN}"),
        )
        for name in ("a list for a manifest", "results cut short", "a row without its unit")
    ),
    Case("compare: a manifest without parameters", f"compare shared/{RUN} {RUN}", ("manifest.json is not whole .no 'parameters'", AGAIN),
         {RUN: changed(manifest=without("parameters"))}),
    Case("keep: a name with a slash", f"keep shared/{RUN} ../mine", ("the name is that of a folder: letters, digits", "'../mine'")),
    Case("keep: a hidden name", f"keep shared/{RUN} .mine", ("the name is that of a folder", "'.mine'")),
    Case("claims: results cut short", "claims", ("results.json is not JSON", AGAIN),
         {"runs/02_reasoning_trajectories/default": changed(results='{"schema"')}),
    Case("validate: no executed notebook", f"validate shared/{RUN}", ("01_first.ipynb", "No such file|no executed")),
    Case("show: a folder that is no run", "show shared", ("no run shared",)),
]  # fmt: skip
