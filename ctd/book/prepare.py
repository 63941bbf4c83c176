"""Before the notebooks: read the data, embed the labels and load the teachers that they need.

Notes: a notebook makes what is missing itself. This does it once, where a person can watch the progress bars.
`notebooks` are the parameters of those that will run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ctd.data import readers
from ctd.reasoning import models
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.shortlists import STATIC_ENCODER


def tasks(notebooks: Sequence[Mapping[str, Any]]) -> dict[str, readers.Task]:
    """Every task that a notebook reads, by name."""
    loaded: dict[str, readers.Task] = {}
    for parameters in notebooks:
        if (name := parameters.get("dataset")) is not None:
            loaded[name] = readers.load_as_asked(name, parameters["source"], *parameters["columns"])
        for name in [*parameters.get("tasks", []), parameters.get("second_dataset", "none")]:
            if name != "none" and name not in loaded:
                loaded[name] = readers.load(name)
    return loaded


def indexes(notebooks: Sequence[Mapping[str, Any]], loaded: Mapping[str, readers.Task]) -> None:
    """Embed and index the whole label spaces that a notebook searches.

    loaded: what `tasks` returned.
    A label space that a notebook cuts down (`n_labels`) is small and left to the notebook. So is filling an exact
    index, which is a copy of the vectors.
    """
    for name, encoder, kind, seed in dict.fromkeys(_searches(notebooks, loaded)):
        if kind == "flat":
            encoders.encode_labels(encoders.load(encoder), loaded[name].space)
        else:
            LabelIndex.build(loaded[name].space, encoders.load(encoder), kind, seed)


def teachers(notebooks: Sequence[Mapping[str, Any]]) -> None:
    """Load every teacher once, which unpacks the packaged base model."""
    names = [parameters["teacher"] for parameters in notebooks if "teacher" in parameters]
    for name in dict.fromkeys(names):
        models.load(name)


def _searches(
    notebooks: Sequence[Mapping[str, Any]], loaded: Mapping[str, readers.Task]
) -> Iterator[tuple[str, str, str, int]]:
    """Every search of a whole label space: task, encoder, kind of index, seed."""
    for parameters in notebooks:
        if "tasks" in parameters:
            yield parameters["tasks"][0], parameters["encoder"], "flat", parameters["seed"]
        if "dataset" not in parameters:
            continue
        if "teacher" in parameters:
            yield parameters["dataset"], parameters["encoder"], "flat", parameters["seed"]
        else:
            whole = parameters["n_labels"] >= len(loaded[parameters["dataset"]].space)
            names = [parameters["dataset"]] * whole
            names += [parameters["second_dataset"]] * (parameters["second_dataset"] != "none")
            for name in names:
                for encoder in (STATIC_ENCODER, parameters["encoder"]):
                    yield name, encoder, parameters["index_kind"], parameters["seed"]
