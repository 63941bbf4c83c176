"""What the parameters of the notebooks mean, and what they may be: types, and groups that several chapters share.

Notes: a type carries its meaning and its bounds, so that a chapter that only changes a default says nothing else.
`ctd.book.chapters` combines the groups into one model for each chapter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, computed_field

MANY = 1_000_000


def _path(text: str) -> str:
    if text and not Path(text).expanduser().exists():
        raise ValueError("no such path")
    return str(Path(text).expanduser().resolve()) if text else ""


def _path_or_name(text: str) -> str:
    return _path(text) if text.startswith(("/", "./", "../", "~")) or Path(text).exists() else text


def _method(name: str) -> str:
    if name not in ("answer", "cot", "fkl", "rkl"):  # defaults, for which torch need not be imported
        from ctd.distill.methods import check

        check(name)
    return name


def _base_loss(name: str) -> str:
    if name != "cot":
        from ctd.distill.methods import base_losses, check

        check(name, "base_loss", base_losses())
    return name


def _arm(name: str) -> str:
    if name not in ("answer", "cot", "fkl", "rkl", "mechanistic"):
        from ctd.distill.comparison import check

        check(name)
    return name


def _text(form: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": form})


ExistingPath = Annotated[str, AfterValidator(_path), _text("path")]
"""A path that must exist, made absolute; "" for none."""
PathOrName = Annotated[str, AfterValidator(_path_or_name), _text("path or name")]
"""A path, made absolute, where there is one of that name, and otherwise a name."""
MethodName = Annotated[str, AfterValidator(_method), _text("named by ctd methods")]
"""A way to teach a student, as `ctd methods` lists them."""
BaseLoss = Annotated[str, AfterValidator(_base_loss), _text("named by ctd methods")]
"""One that the mechanistic terms can be added to."""
ArmName = Annotated[str, AfterValidator(_arm), _text("named by ctd methods")]
"""A method, one with the mechanistic terms ("fkl + mechanistic"), or retrieval without a language model."""

DatasetName = Literal[
    "mesh", "mesh-descriptors", "setmm", "setmm-slice", "vignettes", "heart-failure", "organism", "org-10k",
    "organism-hard", "mimic", "xmc", "records",
]  # fmt: skip
Dataset = Annotated[DatasetName, Field(description="the task")]
Source = Annotated[
    PathOrName, Field(description="your own data (mimic, xmc, records), PubMed files (mesh) or a set.mm file (setmm)")
]
Columns = Annotated[
    list[str], Field(min_length=2, max_length=2, description="columns with the text and with the labels (records)")
]
TeacherName = Annotated[
    PathOrName, Field(description="smollm2-mesh, organism, organism-planted, or the folder or id of a model")
]
Encoder = Annotated[PathOrName, Field(description="wordllama, minilm, or a sentence-transformers folder or name")]
DocumentTokens = Annotated[
    int, Field(ge=0, le=100_000, description="tokens of a document that the teacher sees, 0 for as many as in training")
]
MaxTokens = Annotated[int, Field(ge=16, le=100_000, description="tokens that a model may write about a document")]
Clusters = Annotated[
    int,
    Field(ge=0, le=100_000, description="clusters of labels that serve as topics, 0 for nodes of the tree"),
]
TopicDepth = Annotated[int, Field(ge=0, le=20, description="level of the tree whose nodes are topics, 0 the highest")]
Topics = Annotated[int, Field(ge=1, le=100, description="topics (anchors) of a document at most, most frequent first")]
Documents = Annotated[int, Field(ge=10, le=MANY, description="test documents at most, drawn by seed")]
Scored = Annotated[int, Field(ge=2, le=MANY, description="of these, documents at most that heads are scored on")]
ShortlistSize = Annotated[
    int, Field(ge=0, le=1000, description="places of the shortlists, 0 for as many as the teacher's own has")
]
Corruption = Annotated[
    float, Field(ge=0, le=1, description="share of the corrupted shortlist that comes from another document")
]
NearMisses = Annotated[int, Field(ge=1, le=1000, description="near misses of a document at most")]
Cutoff = Annotated[int, Field(ge=1, le=100, description="places of an answer that count")]
Direction = Annotated[
    Literal["unembedding", "mentions"], Field(description="where the anchor direction of CoarseScore comes from")
]
Decides = Annotated[
    Literal["answer", "gold"], Field(description="whose labels a comparison keeps: the teacher's answer, or gold")
]
Noise = Annotated[
    Literal["run", "gaussian", "uniform", "mean"],
    Field(description="what noising puts in place of a head's pattern or output"),
]
Effects = Annotated[
    int, Field(ge=0, le=MANY, description="of these, documents whose heads' effects are measured, 0 for none")
]
TraceCount = Annotated[int, Field(ge=2, le=MANY, description="traces of the teacher that a student learns from")]
Seed = Annotated[int, Field(ge=0, le=MANY, description="draws documents and bootstrap samples")]


class Settings(BaseModel):
    """The parameters of a notebook; every one has a seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: Seed = 0


class TaskSettings(Settings):
    """Which documents and labels."""

    dataset: Dataset = "mesh"
    source: Source = ""
    columns: Columns = ["text", "labels"]


class SearchSettings(Settings):
    """What texts are compared by."""

    encoder: Encoder = "minilm"


class TeacherSettings(SearchSettings):
    """Which model reasons, and how much it reads and writes."""

    teacher: TeacherName = "smollm2-mesh"
    document_tokens: DocumentTokens = 0
    max_tokens: MaxTokens = 512


class TopicSettings(Settings):
    """What the coarse topics of Phase 1 are."""

    n_clusters: Clusters = 256
    topic_depth: TopicDepth = 0


class HeadSettings(TaskSettings, TeacherSettings, TopicSettings):
    """What heads are scored on."""

    n_documents: Documents = 200
    n_scored: Scored = 64
    n_topics: Topics = 2


class StudentSettings(TaskSettings, TeacherSettings):
    """Which students, from what, and for how long. The model organism is small enough to try everything on."""

    dataset: Dataset = "organism"
    teacher: TeacherName = "organism"
    max_tokens: MaxTokens = 320
    encoder: Encoder = "wordllama"
    layers: Annotated[int, Field(ge=1, le=200, description="of the student, taken evenly from the teacher's")] = 3
    n_steps: Annotated[int, Field(ge=1, le=MANY, description="optimizer steps of every arm")] = 110
    batch_tokens: Annotated[int, Field(ge=64, le=MANY, description="tokens in a step, padding included")] = 1024
    learning_rate: Annotated[float, Field(ge=1e-7, le=1, description="the highest learning rate")] = 0.002
    n_test: Annotated[int, Field(ge=10, le=MANY, description="documents that every student answers")] = 100
    n_seeds: Annotated[int, Field(ge=1, le=100, description="students of each arm")] = 3
    patience: Annotated[
        int, Field(ge=0, le=100, description="validation losses that do not fall before a student stops, 0 for never")
    ] = 0
    seed: Annotated[
        int, Field(ge=0, le=MANY, description="draws traces; the first student's seed, the next have the next ones")
    ] = 0


class MechanismSettings(StudentSettings, TopicSettings):
    """What a student learns from the teacher's heads."""

    n_clusters: Clusters = 0
    topic_depth: TopicDepth = 2
    n_heads: Annotated[
        int, Field(ge=0, le=1000, description="heads of the teacher to imitate in each phase, 0 for the planted ones")
    ] = 4
    matching: Annotated[
        Literal["depth", "apart", "score"], Field(description="how the student's heads are matched to them")
    ] = "depth"
    weights: Annotated[
        list[Annotated[float, Field(ge=0, le=100)]],
        Field(description="of attention, write, interaction: Phase 1, 2"),
    ] = [1.0, 0.1, 0.1, 1.0, 0.1, 0.1]
    loss_forms: Annotated[
        Literal["original", "mended"], Field(description="the published runs' terms and heads, or mended ones")
    ] = "original"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ranked_by(self) -> Literal["paper", "mass"]:
        """Which heads are taught: those highest by the paper's scores, or by attention mass."""
        return "mass" if self.loss_forms == "mended" else "paper"
