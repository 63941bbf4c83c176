"""A user's own table made ready for the chapters: a parameter file, and documents with their labels as lists."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from ctd.cache import atomic, require_free
from ctd.data.readers import tables
from ctd.data.survey import Survey, text_and_labels

PARAMETERS, DOCUMENTS, LABELS = "parameters.yml", "documents.jsonl", "labels.txt"
CLUSTERS = 256  # at most: the chapters' default
LABELS_A_CLUSTER = 8


def write(survey: Survey, folder: Path) -> None:
    """Write a folder with parameters, documents and labels.

    survey: of the table.
    folder: to be made.
    Raises FileExistsError where it is there.
    """
    require_free(folder, "name another folder with --out")
    with atomic(folder) as scratch:
        scratch.mkdir(parents=True)
        with open(scratch / DOCUMENTS, "w", encoding="utf-8") as file:
            for where, row in tables.read_rows(survey.file):
                text, labels = text_and_labels(row, where, survey.text_column, survey.label_column, survey.separator)
                line = {"text": text, "labels": list(dict.fromkeys(labels))}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        (scratch / LABELS).write_text(
            "".join(f"{' '.join(label.split())}\n" for label in survey.labels), encoding="utf-8"
        )
        header = "".join(f"# {' '.join(line.split())}\n" for line in survey.sentences())
        values = yaml.safe_dump(parameters(survey), sort_keys=False, allow_unicode=True)
        (scratch / PARAMETERS).write_text(f"# From {survey.file.name}:\n{header}{values}", encoding="utf-8")


def parameters(survey: Survey) -> dict[str, object]:
    """Values for the chapters' parameters that fit the data; all others keep their defaults."""
    n_labels = len(survey.labels)
    clusters = max(min(2, n_labels), min(CLUSTERS, n_labels // LABELS_A_CLUSTER))  # labels without a tree need topics
    return {
        "dataset": "records",
        "source": DOCUMENTS,
        "columns": ["text", "labels"],
        "second_dataset": "none",
        "n_clusters": clusters,
        "topic_depth": 0,
        "cutoff": min(5, n_labels),
    }


def commands(folder: Path) -> list[str]:
    """What to run with the folder, in order."""
    file = folder / PARAMETERS
    return [
        f"ctd run 01 -f {file} --out runs/{folder.name}-01",
        f"ctd plan 02 -f {file} -p teacher=YOUR-MODEL",
        f"ctd run 02 -f {file} -p teacher=YOUR-MODEL --out runs/{folder.name}-02",
        f"ctd predict retrieval {folder / DOCUMENTS} --labels {folder / LABELS} --out {folder.name}-labels.jsonl",
        f"ctd explorer --dataset records --source {folder / DOCUMENTS} --out {folder.name}-explorer",
    ]
