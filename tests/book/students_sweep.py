"""A notebook that teaches one student of the organism in seconds, and a project with a grid of them."""

from tests.book.test_runs import write_notebook

PARAMETERS = """\
from typing import Annotated
from pydantic import Field
learning_rate: Annotated[float, Field(ge=0.0001, le=1, description="the highest")] = 0.002
student: Annotated[int, Field(ge=0, le=1000, description="its seed")] = 0
seed: Annotated[int, Field(ge=0, le=1000, description="draws the traces")] = 0
"""
TEACHES = """\
from pathlib import Path
from tempfile import TemporaryDirectory
from ctd.book.recorder import Recorder
from ctd.cache import file_digest
from ctd.data import readers
from ctd.distill import measures, pool
from ctd.distill.experiment import Plan
from ctd.distill.methods import Arm
from ctd.distill.prepare import prepare
from ctd.reasoning import teachers
from ctd.retrieval.index import LabelIndex
run = Recorder.start(seed)
task, teacher = readers.load("organism"), teachers.load("organism")
index = LabelIndex.build(task.space, "wordllama")
plan = Plan(layers=2, n_traces=6, n_steps=3, n_test=4, max_tokens=96, learning_rate=learning_rate)
experiment = prepare(teacher, task, index, plan, seed)
with TemporaryDirectory() as folder:
    outcome = pool.run(experiment, [Arm("cot", "cot")], [student], Path(folder))[0]
    weights = {path.name: file_digest(path) for path in sorted(Path(folder).rglob("*.safetensors"))}
for name, digest in weights.items():
    run.record("weights", digest, "SHA-256", item=name)
run.record("final_loss", outcome.loss, "nats")
run.record("answers", str(outcome.answers), "labels")
run.close()
"""
GRID = "grid: {learning_rate: [0.001, 0.002], student: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}\n"
N_CELLS = 24


def write_project(folder):
    """Write the notebook and the grid; returns the folder."""
    write_notebook(folder / "notebooks" / "01_student.ipynb", TEACHES, parameters=PARAMETERS)
    (folder / "grid.yml").write_text(GRID)
    return folder
