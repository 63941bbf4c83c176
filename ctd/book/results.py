"""What a notebook found, as rows of one schema: each number says what it is, what its interval is over, and how many it
rests on.

Notes: `results.json` holds the rows of a run and the number of the schema. A row is found again by its identity, which
is all of it but the number itself: a claim is a filter over rows, a table a pivot, a comparison of two runs a join.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ctd.mechanism.phases import Phase

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

RESULTS = "results.json"
NOT_TESTABLE = "not_testable"  # the metric of the reason for which a chapter ended early
SCHEMA = 2

IntervalOver = Literal[
    "documents", "seeds", "documents and seeds", "resampled rankings", "subsets of documents", "sets of heads"
]
IntervalMethod = Literal["BCa", "percentile", "Student's t", "Satterthwaite"]


def _check_value(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise ValueError(f"a value must be a number, text or None, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a value must be finite, or None where there is none, got {value}")
    return value


Finite = Annotated[float, Field(allow_inf_nan=False)]
Value = Annotated[int | float | str | None, BeforeValidator(_check_value)]


class ResultKey(BaseModel):
    """What a result is: two results with equal keys are the same quantity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(min_length=1, description="what is measured, in the field's terms")
    unit: str = Field(min_length=1, description='such as "fraction", "labels", "nats"')
    interval_over: IntervalOver | None = Field(None, description="what was drawn anew to make the interval")
    # what was measured
    dataset: str | None = Field(None, description="the task, where a notebook has several")
    teacher: str | None = Field(None, description="the model that writes the traces, where a notebook has several")
    study: Literal["second"] | None = Field(None, description="the second of two studies of one notebook")
    method: str | None = Field(None, description="what answered or estimated: a retriever, a prior, a teacher, a rule")
    mode: str | None = Field(None, description="how the method was asked, where not in the usual way")
    claim: str | None = Field(None, description="a claim of the ledger")
    published_run: str | None = Field(None, description="a run that is published with the book")
    # students
    arm: str | None = Field(None, description="one way of training a student")
    baseline: str | None = Field(None, description="what was subtracted: an arm, a refinement or a control")
    budget: Literal["equal_steps", "equal_time"] | None = Field(None, description="what the arms have alike")
    traces: int | None = Field(None, description="how many traces, or documents, it was learned from")
    # rankings
    k: int | None = Field(None, description="how many places of a ranking count")
    label_set: Literal["all"] | None = Field(None, description='"all": with the labels that the task leaves out')
    shortlist_size: int | None = Field(None, description="labels in the shortlist that is ranked anew")
    group_by: str | None = Field(None, description="by what labels or documents are grouped")
    group: str | None = Field(None, description="one of these groups")
    # phases
    phase: Phase | None = Field(None, description="1 the shortlist, 2 its refinement")
    shortlist: str | None = Field(None, description="whose shortlist was refined")
    refinement: str | None = Field(None, description="who refined it")
    effect: Literal["main", "interaction", "neither", "alone", "both", "shapley_share", "lost", "synergy"] | None = (
        Field(None, description="what was computed from the cells of the two phases")
    )
    t: float | None = Field(None, description="place in the chain of thought, from 0 to 1")
    control: str | None = Field(None, description="what stands in place of the teacher's own chain of thought")
    # heads
    score: str | None = Field(None, description="what ranks the heads")
    layer: int | None = Field(None, description="a head's layer, from 0")
    head: int | None = Field(None, description="its number in that layer, from 0")
    stage: int | None = Field(None, description="a stage of the chain of thought, from 1")
    heads: Literal["top", "lowest", "random", "planted", "both", "all"] | None = Field(
        None, description='which heads; "both": the highest of either phase'
    )
    n_heads: int | None = Field(None, description="how many heads")
    readout: str | None = Field(None, description="what of the model's output is read")
    intervention: Literal["noising", "denoising"] | None = Field(None, description="how heads are patched")
    instrument: str | None = Field(None, description="the way of patching, where a notebook has several")
    item: str | None = Field(None, description="what is counted, in words, such as a reason for leaving documents out")

    @property
    def identity(self) -> tuple[Any, ...]:
        """The key as a tuple, to join by."""
        return tuple(getattr(self, name) for name in IDENTITY)

    @property
    def measure(self) -> str:
        """The metric with its k, such as "ndcg@5"."""
        return self.metric if self.k is None else f"{self.metric}@{self.k}"

    @property
    def label(self) -> str:
        """The key in words, such as "ndcg@5 (arm=cot, over seeds)"."""
        stated = {name: getattr(self, name) for name in DIMENSIONS if name != "k"}
        words = [f"{name}={_short(value)}" for name, value in stated.items() if value is not None]
        words += [f"over {self.interval_over}"] if self.interval_over not in (None, "documents") else []
        return f"{self.measure} ({', '.join(words)})" if words else self.measure


class Row(ResultKey):
    """One number that a notebook found.

    A number that is not defined (None) has no interval, and may say what it would be over.
    Raises a ValidationError for an interval that is not finite and in order, or does not say what it is over, how it
    was made and how many it rests on.
    """

    value: Value = Field(description="a number or a text; None where there is none, such as the recall of no labels")
    interval: tuple[Finite, Finite] | None = Field(None, description="the ends of the 95 % interval")
    interval_method: IntervalMethod | None = Field(None, description="how the interval was made")
    n: int | None = Field(None, ge=1, description="how many documents, seeds, ... the number rests on")

    @model_validator(mode="after")
    def _interval_is_whole(self) -> Row:
        stated = [self.interval_over is not None, self.interval_method is not None, self.n is not None]
        if self.interval is None:
            if stated[1] or (stated[0] and self.value is not None):
                raise ValueError("interval_over and interval_method are said of an interval, and there is none")
            return self
        if not all(stated):
            raise ValueError("an interval needs interval_over, interval_method and n")
        if self.interval[0] > self.interval[1]:
            raise ValueError(f"interval must be (low, high) in order, got {self.interval}")
        return self

    def plain(self) -> dict[str, Any]:
        """The row as JSON holds it: without what is not said."""
        return self.model_dump(mode="json", exclude_none=True) | {"value": self.value}


IDENTITY = tuple(ResultKey.model_fields)
DIMENSIONS = tuple(name for name in IDENTITY if name not in ("metric", "unit", "interval_over"))
COLUMNS = (*IDENTITY, "value", "low", "high", "interval_method", "n")


def read(path: Path) -> list[Row]:
    """The rows of a `results.json`, in the order of recording.

    Raises ValueError with one line for a damaged file, or one of another schema.
    """
    content = read_json(path)
    schema = content.get("schema", 1) if isinstance(content, dict) else 1
    if schema != SCHEMA:
        raise ValueError(
            f"{path} has results of schema {schema}, and this ctd reads schema {SCHEMA}: run the notebook again with "
            "--force"
        )
    try:
        return [Row.model_validate(row) for row in content["rows"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"{path} is not whole ({one_line(error)}); run the notebook again with --force") from None


def write(rows: Iterable[Row], path: Path, **beside: Any) -> None:
    """Write rows as a `results.json`, a line each, and what else belongs to the run."""
    content = json.dumps({"schema": SCHEMA, **beside}, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(f'{content[:-2]},\n "rows": {lines([row.plain() for row in rows])}\n}}\n', "utf-8")


def lines(entries: Iterable[dict[str, Any]]) -> str:
    """Entries as a JSON list, a line each."""
    return "[\n  " + ",\n  ".join(json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in entries) + "\n ]"


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a table with the columns `COLUMNS`; None where a row does not say something."""
    import pandas as pd

    entries = []
    for row in rows:
        low, high = row.interval or (None, None)
        entries.append([*row.identity, row.value, low, high, row.interval_method, row.n])
    return pd.DataFrame(entries, columns=list(COLUMNS), dtype=object)


def select(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows of a table that have certain values.

    wanted: by column, a value, a list of which any will do, or None for rows without a value.
    """
    for name, value in wanted.items():
        column = table[name]
        table = table[column.isna() if value is None else column.isin(value if isinstance(value, list) else [value])]
    return table


def measures(table: pd.DataFrame) -> pd.Series:
    """The metric of each row with its k, such as "ndcg@5"."""
    return table["metric"].where(table["k"].isna(), table["metric"] + "@" + table["k"].astype(str))


def named(table: pd.DataFrame, *columns: str, by: str = ", ") -> pd.Series:
    """The values of some columns, joined to one text for each row."""
    return table[list(columns)].apply(lambda row: by.join(str(value) for value in row.dropna()), axis=1)


def untestable(rows: Iterable[Row]) -> str:
    """Why a run could not answer its question; "" for one that could."""
    return next((str(row.value) for row in rows if row.metric == NOT_TESTABLE), "")


def one_line(error: Exception) -> str:
    """What is wrong, in one line."""
    if not isinstance(error, ValidationError):
        return repr(error)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return message if first["type"] == "value_error" else f"{place}: {message}"


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError with one line when it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise ValueError(f"{path} is not JSON ({error}); run the notebook again with --force") from None


def _short(value: Any) -> Any:
    return int(value) if isinstance(value, Phase) else value
