"""`import ctd` is light, has ten names, and the README's quick start runs as it is printed, on fewer documents."""

import re
import subprocess
import sys

import pandas as pd
import pytest

import ctd
from ctd.cache import ROOT

FEWER = {
    '"test", 24': '"test", 8',
    "n_scored=16": "n_scored=4",
    "n_traces=64, n_steps=30": "n_traces=4, n_steps=1, n_test=2",
}


def quick_start():
    code = re.search(r"```python\n(import ctd\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    for printed, tested in FEWER.items():
        assert printed in code
        code = code.replace(printed, tested)
    return code


def test_the_quick_start_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(quick_start(), names)
    assert len(names["predictions"]) == 8
    assert (tmp_path / "my-student" / "README.md").is_file()
    shown = capsys.readouterr().out
    for part in ("nDCG@5", "quotes", "layer", "readout", "verdict"):
        assert part in shown


def test_the_quick_start_names_all_ten():
    assert set(re.findall(r"ctd\.(\w+)\(", quick_start())) | {"LabelIndex"} == set(ctd.__all__)
    assert len(ctd.__all__) == 10


def test_every_name_is_there_with_a_docstring():
    for name in ctd.__all__:
        assert callable(getattr(ctd, name)), name
        assert getattr(ctd, name).__doc__, name
    assert set(ctd.__all__) <= set(dir(ctd))
    with pytest.raises(AttributeError, match="no attribute 'evaluation'; it has LabelIndex, claims"):
        _ = ctd.evaluation


def test_importing_ctd_loads_nothing_heavy():
    code = "import sys, ctd; print(*{'torch', 'numpy', 'pandas', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_predictions_of_another_number_of_documents_are_refused(task):
    with pytest.raises(ValueError, match="the split 'test' has 3 documents, got 0 predictions"):
        ctd.evaluate([], task)


def test_claims_are_a_table():
    table = ctd.claims("smoke")
    assert isinstance(table, pd.DataFrame)
    assert {"claim", "verdict"} <= set(table)
