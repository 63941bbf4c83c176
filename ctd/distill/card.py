"""A student's model card: what it learned from whom, how well it answers, and what it is not for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ctd.data.task import Card

FILE = "README.md"
PAPER = "arXiv:2606.06840"
MEASURES = {
    "exact_match": "answers that are exactly the gold labels (fraction)",
    "ndcg@5": "nDCG@5",
    "shortlist_recall": "gold labels that the shortlist names (fraction)",
    "token_probability": "probability of the teacher's next token (geometric mean)",
    "tokens": "tokens written",
}
TEXT = """# {name}

A student with {parameters:,} parameters that chooses labels for documents. It was distilled from the teacher
`{teacher}`, which first shortlists labels and then compares them ({paper}).

## Use

```sh
ctd predict {name} documents.jsonl --out labels.jsonl
```

```python
from ctd.distill import student_predictor

student_predictor.load("{name}").predict_proba(["the text of a document"])
```

`transformers.AutoModelForCausalLM.from_pretrained` loads the folder as well; the prompt is `Document: `, the document
on one line, and a line break.

## Data

| | |
|---|---|
{data}

## Training

| | |
|---|---|
{training}

## Scores

{documents} documents of the {split} split, none of which the student was taught about; 95 % intervals over documents, \
for this one
student and seed.

| measure | teacher | student |
|---|---|---|
{scores}

## Limits

- It knows these {labels:,} labels only, and answers with some of them even where none fits.
- It reads the first {document_tokens:,} tokens of a document, and was taught on documents like those above. Other
  documents, languages or label spaces were not tested.
- It imitates its teacher, mistakes included. Its reasoning is not proof of how it came to its answer.
- Its scores are probabilities of what it wrote. They are not calibrated.
- Nobody has reviewed it for medical, legal or other decisions about people.
{generated}"""
GENERATED = "- The documents above were **generated** by a program: results on real ones will differ.\n"


def write(manifest: Mapping[str, Any], data: Card) -> str:
    """The card as Markdown, with the metadata that the Hugging Face hub reads.

    manifest: of `ctd.distill.export.teach`.
    data: the card of the task.
    """
    lesson, arm, plan = manifest["lesson"], manifest["arm"], manifest["plan"]
    dropped = "; ".join(f"{count:,} {reason}" for reason, count in data.dropped.items())
    text = TEXT.format(
        name=manifest["name"], parameters=manifest["parameters"], teacher=manifest["teacher"], paper=PAPER,
        data=_rows({
            "name": data.title, "how it was made": data.made, "source": data.source, "licence": data.licence,
            "left out": dropped, "labels": f"{lesson['n_labels']:,} ({lesson['space']})",
        }),
        training=_rows({
            "method": arm["method"], "added to": arm["base_loss"] if arm["method"] == "mechanistic" else "",
            "traces": f"{manifest['traces']:,}", "layers": "" if plan["student"] else str(plan["layers"]),
            "began as": plan["student"], "steps": f"{manifest['steps']:,}", "tokens": f"{manifest['tokens']:,}",
            "learning rate": str(plan["learning_rate"]), "seed": str(manifest["seed"]),
            "loss at the end": f"{manifest['loss']:.3f}", "minutes": str(manifest["minutes"]),
            "hardware": manifest["hardware"],
        }),
        documents=plan["n_test"], split=plan["split"], scores=_scores(manifest["measured"]), labels=lesson["n_labels"],
        document_tokens=manifest["recipe"]["document_tokens"], generated=GENERATED if data.generated else "",
    )  # fmt: skip
    return str(ModelCard(f"---\n{_metadata(manifest, data).to_yaml()}\n---\n\n{text}"))


def _metadata(manifest: Mapping[str, Any], data: Card) -> ModelCardData:
    teacher, measured = manifest["teacher"], manifest["measured"]["student"]
    results = [
        EvalResult(
            task_type="text-classification", dataset_type=manifest["lesson"]["dataset"], dataset_name=data.title,
            dataset_split=manifest["plan"]["split"], metric_type=name, metric_name=MEASURES[name],
            metric_value=round(values["value"], 4),
        )
        for name, values in measured.items() if name != "tokens"
    ]  # fmt: skip
    return ModelCardData(
        model_name=manifest["name"],
        library_name="transformers",
        pipeline_tag="text-generation",
        license="other",
        license_name="that-of-teacher-and-data",
        base_model=teacher if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", teacher) else None,
        tags=["ctd", "distillation", manifest["arm"]["method"]],
        eval_results=results,
    )


def _rows(entries: Mapping[str, str]) -> str:
    return "\n".join(f"| {name} | {_cell(value)} |" for name, value in entries.items() if value)


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")


def _scores(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    def cell(who: str, measure: str) -> str:
        values = measured[who].get(measure)
        return "" if values is None else f"{values['value']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"

    rows = [(name, cell("teacher", name), cell("student", name)) for name in MEASURES]
    return "\n".join(f"| {MEASURES[name]} | {teacher} | {student} |" for name, teacher, student in rows if student)
