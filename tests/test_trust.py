"""Nothing that lay on the disk before a run is run: no pickle, no archive's path, no parameter, no notebook's type."""

import ast
import io
import json
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator
from torch import nn

from ctd.cache import ROOT, cache_dir
from ctd.data.readers import records
from ctd.data.task import Task
from ctd.distill import checkpoint
from ctd.retrieval import encoders
from tests.test_pins import source_of

RUNS_CODE = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "cloudpickle.load", "joblib.load",
    "marshal.loads", "marshal.load", "shelve.open", "pd.read_pickle", "pandas.read_pickle", "eval", "exec", "compile",
    "os.system", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "runpy.run_path",
}  # fmt: skip
UNPACKS = {"extractall", "extract", "unpack_archive"}
PAYLOAD = "ctd/payload.py"  # reads a pickle whose digest its parent gave it: tests/test_payload.py
CLUSTER = "ctd/ray_cluster.py"  # reads what its own pieces of work return; Ray itself hands everything over as pickles


def hazards(source):
    """Calls in Python code that may run what a file says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "pickle.Unpickler" for base in node.bases):
            yield "pickle.Unpickler"
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        leaves = name.rpartition(".")[2] in UNPACKS and arguments.get("filter") != "'data'"
        if name in RUNS_CODE or leaves:
            yield name
        if name == "torch.load" and arguments.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if name == "yaml.load" and "_Loader" not in ast.unparse(node):
            yield "yaml.load with another loader"
        for keyword, value in (("allow_pickle", "True"), ("trust_remote_code", "True"), ("shell", "True")):
            if arguments.get(keyword) == value:
                yield f"{name} with {keyword}=True"


def test_no_code_of_ours_runs_what_a_file_says():
    files = [*(ROOT / "ctd").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").rglob("*.py")]
    hazards_by_file = {
        str(file.relative_to(ROOT)): {*hazards(source_of(file))} for file in files if "_build" not in file.parts
    }
    assert {file: calls for file, calls in hazards_by_file.items() if calls} == {
        PAYLOAD: {"pickle.Unpickler", "pickle.loads"},
        CLUSTER: {"pickle.loads"},
    }


@pytest.mark.parametrize(
    "source",
    ["torch.load(path)", "torch.load(path, weights_only=False)", "np.load(f, allow_pickle=True)", "pickle.load(f)",
     "eval(text)", "tarfile.open(f).extractall(p)", "class A(pickle.Unpickler): ...", "yaml.load(text, yaml.Loader)",
     "subprocess.run(words, shell=True)", "load(name, trust_remote_code=True)"],
)  # fmt: skip
def test_a_call_that_runs_what_a_file_says_is_noticed(source):
    assert len([*hazards(source)]) == 1


class Hostile:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trap):
        self.trap = str(trap)

    def __reduce__(self):
        return open, (self.trap, "w")


@pytest.fixture
def trap(tmp_path):
    """A file that is there once a hostile pickle was read."""
    path = tmp_path / "trap"
    pickle.loads(pickle.dumps(Hostile(path))).close()
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists(), "a pickle was read"


def object_array(trap):
    file = io.BytesIO()
    np.save(file, np.array([Hostile(trap)], object), allow_pickle=True)
    return file.getvalue()


def test_a_hostile_pickle_in_a_checkpoint_is_not_read(trap, tmp_path):
    weights = [nn.Parameter(torch.zeros(2))]
    for name in (checkpoint.CHECKPOINT, checkpoint.BEST):
        torch.save({"identity": "a", "weights": Hostile(trap)}, tmp_path / name)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.resume(tmp_path, "a", weights, torch.optim.SGD(weights))
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.take_best(tmp_path, weights)


def test_hostile_pickles_in_the_cache_are_not_read(trap, own_cache, encoder, task, tmp_path):
    encoders.encode(encoder, ["liver"])
    (vectors,) = cache_dir("vectors").glob("*.npy")
    vectors.write_bytes(object_array(trap))
    with pytest.raises(ValueError, match="Array can't be memory-mapped|allow_pickle"):
        encoders.encode(encoder, ["liver"])
    task.save(tmp_path / "task")
    (tmp_path / "task" / "unscored.npy").write_bytes(object_array(trap))
    with pytest.raises(ValueError, match=r"unscored\.npy is damaged"):
        Task.load(tmp_path / "task")
    task.save(tmp_path / "task")
    with zipfile.ZipFile(tmp_path / "task" / "filtered-test.npz", "w") as archive:
        archive.writestr("format.npy", object_array(trap))
    with pytest.raises(ValueError, match=r"filtered-test\.npz is damaged"):
        Task.load(tmp_path / "task")


def test_an_encoder_of_a_stranger_runs_no_code(trap, tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "strange.Encoder"}]))
    (folder / "strange.py").write_text(f"open({str(trap)!r}, 'w')\n\n\nclass Encoder:\n    pass\n")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(trap)))
    with pytest.raises(ValueError, match="strange"):
        encoders.load(str(folder))


def test_an_archive_among_the_data_writes_nothing_outside_the_cache(tmp_path, own_cache):
    folder = tmp_path / "data"
    folder.mkdir()
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for name in ("../evil.jsonl", "../../evil.jsonl", str(tmp_path / "evil.jsonl"), "good.jsonl"):
            archive.writestr(name, '{"text": "a", "labels": ["x"]}\n')
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(own_cache)}
    with suppress(ValueError):
        records.load(folder)
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(own_cache)}
    assert after == before
    assert not Path("/evil.jsonl").exists()


NASTY = [
    '"', "'", "\\", "\n", '"""', "'''", '\\"', "#", "{", "}", "\r", "\u2028", "\x00", '"); x(', "\U0001d11e",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=8).map("".join)


@given(st.dictionaries(st.sampled_from(["note", "source"]), TEXTS | st.lists(TEXTS, max_size=3), min_size=1))
def test_a_parameters_value_stays_a_value_in_the_notebook(values):
    """What papermill writes into the cell of parameters: assignments of the very values, and nothing else."""
    statements = ast.parse(PythonTranslator.codify(values, "Parameters")).body
    assert all(isinstance(statement, ast.Assign) for statement in statements)
    assert {ast.unparse(s.targets[0]): ast.literal_eval(s.value) for s in statements} == values
