"""What a run will cost before it begins: tokens, minutes, memory and disk, from what was recorded on this machine.

Notes: an estimate assumes that nothing is in the cache. Texts and students that are there, or come with the book, cost
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctd import hardware, workers
from ctd.book import run_folder
from ctd.book.runs import Plan
from ctd.cache import cache_dir
from ctd.reasoning import costs, models
from ctd.reasoning.costs import Spread

KNOWN = {  # parameters, layers, and parameters outside of layers, of models that need not be here
    "meta-llama/Meta-Llama-3-70B-Instruct": (70_553_706_496, 80, 2_101_354_496),
}
GPU, GPU_SPEED = "H100", 989e12  # operations a second in bfloat16, by its data sheet
LARGE = 100_000_000  # parameters of a model whose writing says something about one of billions
UNMEASURED = 3.0  # how far an estimate from matrix products may be off, either way
OVERHEAD = 8.0  # writing took so many times as long as its matrix products: 340,000 tokens in 45 minutes on 2 cores
BACKWARD = 3  # a training step takes so many times as long as reading
BYTES_A_TOKEN = 40  # of a text in the cache
STATE = 12  # bytes a weight of a checkpoint: weight and optimizer in float32
BATCH = 49_152  # tokens of a batch whose keys and values are in memory
ANSWER_ALONE = 0.4  # of a text: what chapter 02 writes in the mode "answer", and chapter 03 after each shortlist
REFINED = 1 + 5 * ANSWER_ALONE  # texts of a document in chapters 03 and 08: the trace, and five refinements

Parameters = Mapping[str, Any]


def _modes(parameters: Parameters) -> float:
    return 1 + sum(ANSWER_ALONE if mode == "answer" else 1 for mode in parameters["modes"])


def _documents(times: float | Callable[[Parameters], float] = 1) -> Callable[[Parameters], float]:
    return lambda parameters: parameters["n_documents"] * (times(parameters) if callable(times) else times)


def _students(arms: Callable[[Parameters], int]) -> Callable[[Parameters], float]:
    """The teacher's traces and answers, and the answers of each student."""

    def texts(parameters: Parameters) -> float:
        traces = np.max(parameters["n_traces"])
        return float(traces + parameters["n_test"] * (1 + arms(parameters) * parameters["n_seeds"]))

    return texts


MECHANISTIC = ("baselines", "base_losses")  # parameters that name arms of chapter 10
ARMS: dict[str, Callable[[Parameters], int]] = {  # how many arms of students a chapter trains
    "09": lambda parameters: 4,
    "10": lambda parameters: 1 + sum(len(parameters.get(name, ())) for name in MECHANISTIC),
    "11": lambda parameters: 2 * len(parameters["n_traces"]),
    "12": lambda parameters: 1 + len(parameters["tried"]),
    "13": lambda parameters: 2 + len(parameters["terms"]),
    "14": lambda parameters: 1 + len(parameters["arms"]),
    "15": lambda parameters: 1 + len(parameters["arms"]),
}
TEXTS: dict[str, Callable[[Parameters], float]] = {  # how many texts a chapter's models write
    "02": _documents(_modes), "03": _documents(REFINED), "04": _documents(), "05": _documents(), "06": _documents(),
    "07": _documents(), "08": _documents(REFINED), **{chapter: _students(arms) for chapter, arms in ARMS.items()},
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part of the work.

    what: the work.
    tokens: how many are written or learned from.
    minutes: low, middle and high.
    source: where the minutes come from.
    gpu_hours: of one `GPU`: low, middle and high.
    """

    what: str
    tokens: int
    minutes: tuple[float, float, float]
    source: str
    gpu_hours: tuple[float, float, float]


@dataclass(frozen=True)
class Estimate:
    """What a run costs.

    parts: of its work.
    memory_mib: of the model, with a batch of texts, in each process.
    disk_mib: of texts and checkpoints that stay in the cache, and of a model that has to be fetched.
    earlier: runs of the notebook on this machine: name, minutes, MiB.
    gpu_hours: of one `GPU`: low, middle and high.
    """

    parts: list[Part]
    memory_mib: float
    disk_mib: float
    earlier: list[tuple[str, float, float]]
    gpu_hours: tuple[float, float, float]


def estimate(plan: Plan) -> Estimate:
    """Estimate a run.

    plan: of the run.
    Raises FileNotFoundError for a teacher whose size is not known.
    """
    parameters, chapter = plan.parameters, plan.notebook.stem[:2]
    size = n_parameters(parameters["teacher"]) if "teacher" in parameters else 0
    parts = []
    recordings = costs.recorded()
    if size and chapter in TEXTS:
        parts.append(_writing(TEXTS[chapter](parameters), parameters.get("max_tokens", 512), size, recordings))
    if size and chapter in ARMS:
        student = _student_size(parameters["teacher"], size, parameters["layers"])
        parts.append(_training(ARMS[chapter](parameters), parameters, student))
    weight = 2 if hardware.dtype() == "bfloat16" else 4
    keys_and_values = 2 * BATCH * _width(size) * weight / 3 if size else 0.0  # grouped heads keep a third
    disk = parts[0].tokens * BYTES_A_TOKEN if parts else 0
    if chapter in ARMS:
        disk += student * STATE * workers.available()
    if parameters.get("teacher") in KNOWN:
        disk += 2 * size
    low, middle, high = (sum(part.gpu_hours[n] for part in parts) for n in range(3))
    memory = (size * weight + keys_and_values) / 2**20
    return Estimate(parts, memory, disk / 2**20, _earlier(plan), (low, middle, high))


def _writing_overheads(recordings: Sequence[costs.Cost]) -> list[float]:
    """Writing time here over that of the matrix products, for each recorded model of `LARGE` parameters or more."""
    speed = _gflops("writing") * 1e9 * workers.available()
    large = [cost for cost in recordings if cost.parameters >= LARGE]
    return [cost.seconds / cost.tokens * speed / (2 * cost.parameters) for cost in large]


def _gpu_hours(operations: float, overheads: Sequence[float] = ()) -> tuple[float, float, float]:
    """Hours of one GPU: low, middle and high.

    That the GPU has the overhead of this machine is not measured, so the spread is at least `UNMEASURED` either way.

    operations: of matrix products.
    overheads: how many times as long as these it took here; `OVERHEAD` where nothing was recorded.
    """
    low, middle, high = np.percentile(overheads or [OVERHEAD], [10, 50, 90]).tolist()
    hours = operations / GPU_SPEED / 3600
    return hours * min(low, middle / UNMEASURED), hours * middle, hours * max(high, middle * UNMEASURED)


def _student_size(teacher: str, size: int, layers: int) -> int:
    """Parameters of a student of so many of its teacher's layers; those of the teacher where its layers are not known.

    teacher: its name.
    size: its parameters.
    layers: of the student.
    """
    _, n_layers, outside = KNOWN.get(teacher, (size, 0, 0))
    return outside + (size - outside) * layers // n_layers if n_layers else size


def _writing(texts: float, max_tokens: int, size: int, recordings: list[costs.Cost]) -> Part:
    length = costs.tokens_a_text(recordings, size)
    tokens = round(texts * min(max_tokens, length.middle if length else max_tokens))
    spread = costs.seconds_a_token(recordings, size)
    if spread is None:
        seconds = OVERHEAD * 2 * size / 1e9 / _gflops("writing") / workers.available()
        spread = Spread(seconds / UNMEASURED, seconds, seconds * UNMEASURED, 0)
    basis = f"{spread.n} recordings of writing here" if spread.n else "matrix products timed here (ctd machine)"
    basis += "" if length else "; each text counted as max_tokens long"
    hours = _gpu_hours(2.0 * size * tokens, _writing_overheads(recordings))
    return Part(f"{texts:,.0f} texts written", tokens, _minutes(tokens, spread), basis, hours)


def _training(arms: int, parameters: Parameters, size: int) -> Part:
    """The students of a chapter. size: parameters of one."""
    tokens = arms * parameters["n_seeds"] * parameters["n_steps"] * parameters["batch_tokens"]
    rates = _seconds_a_token_taught(parameters["layers"])
    if rates:
        low, middle, high = (float(value) for value in np.percentile(rates, [10, 50, 90]) / workers.available())
        spread, basis = Spread(low, middle, high, len(rates)), f"{len(rates)} students of as many layers taught here"
    else:
        seconds = OVERHEAD * BACKWARD * 2 * size / 1e9 / _gflops("reading") / workers.available()
        spread = Spread(seconds / UNMEASURED, seconds, seconds * UNMEASURED, 0)
        basis = "matrix products timed here; a student counts as its teacher unless the teacher's layers are known"
    hours = _gpu_hours(2.0 * BACKWARD * size * tokens)
    title = f"{arms} arms of {parameters['n_seeds']} students taught"
    return Part(title, tokens, _minutes(tokens, spread), basis, hours)


def _seconds_a_token_taught(layers: int) -> list[float]:
    """Training seconds per token of each cached student with this many layers, taught on this machine."""
    seconds = []
    for file in cache_dir("students").glob("*/outcome.json"):
        with suppress(ValueError, KeyError, TypeError, OSError, ZeroDivisionError):
            outcome = json.loads(file.read_text(encoding="utf-8"))
            if outcome["plan"]["layers"] == layers:
                seconds.append(outcome["seconds"] / outcome["tokens"])
    return seconds


def _minutes(tokens: float, spread: Spread) -> tuple[float, float, float]:
    return tokens * spread.low / 60, tokens * spread.middle / 60, tokens * spread.high / 60


def _gflops(work: str) -> float:
    speeds = {(speed.work, speed.dtype): speed.gflops for speed in hardware.speeds() if speed.threads == 1}
    return speeds[work, hardware.dtype()]


def _width(size: int) -> float:
    """About layers times width of a model of that size: as SmolLM2-135M has it, in proportion to size^(2/3)."""
    return 17_280 * (size / 134.5e6) ** (2 / 3)


def _earlier(plan: Plan) -> list[tuple[str, float, float]]:
    """Runs of the notebook that were made on this machine, newest first."""
    here = hardware.cpu(), hardware.cores()
    earlier = []
    for run in run_folder.all_runs():
        try:
            manifest = run.manifest
            if run.stem == plan.notebook.stem and (manifest["hardware"]["cpu"], manifest["hardware"]["cores"]) == here:
                earlier.append((manifest["start"], run.name, manifest["duration_s"] / 60, manifest["peak_memory_mib"]))
        except (ValueError, KeyError, OSError):
            continue
    return [(name, minutes, memory) for _, name, minutes, memory in sorted(earlier, reverse=True)]


def n_parameters(name: str) -> int:
    """How many parameters a model has, from the headers of its files on this machine, or as `KNOWN`.

    name: as `models.load` takes it.
    Raises FileNotFoundError for one that is neither here nor known.
    """
    if name in KNOWN:
        return KNOWN[name][0]
    packaged = models.PACKAGED.get(name)
    if packaged and packaged.base:
        return n_parameters(packaged.base)
    source = models.source_of(name) if packaged else models.folder(name)
    gguf = source if source.suffix == ".gguf" else next(iter(sorted(source.glob("*.gguf"))), None)
    if gguf is not None and gguf.is_file():
        import gguf as library

        return sum(int(np.prod(tensor.shape)) for tensor in library.GGUFReader(gguf).tensors)
    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"the model {name!r} is not on this machine, so its size is not known: give its folder, or load it once "
            "with ctd check-model"
        )
    return sum(map(_in_file, files))


def _in_file(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, "np") as tensors:
        return sum(int(np.prod(tensors.get_slice(key).get_shape())) for key in tensors.keys())  # noqa: SIM118
