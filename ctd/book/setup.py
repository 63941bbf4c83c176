"""What every notebook begins with: checked parameters, a recorder, and the task, index and teacher that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ctd.book import plots
from ctd.book.chapters import Complementarity
from ctd.book.parameters import parameters_of_model
from ctd.book.recorder import Recorder
from ctd.book.settings import HeadSettings, MechanismSettings, Settings, TeacherSettings

if TYPE_CHECKING:  # each chapter loads what it needs, and no more
    from ctd.data.task import Task
    from ctd.reasoning.rank_answers import Prediction
    from ctd.reasoning.teachers import Teacher
    from ctd.retrieval.index import LabelIndex

T = TypeVar("T")


@dataclass(frozen=True)
class Chapter:
    """A notebook that is being run; what its parameters name is loaded when it is first asked for.

    settings: the parameters, checked.
    run: the recorder of its results.
    """

    settings: Any
    run: Recorder

    @cached_property
    def task(self) -> Task:
        """The task, with its test documents sampled (`n_documents`) and its topics on top (`n_clusters`)."""
        return self._task_and_index[0]

    @cached_property
    def index(self) -> LabelIndex:
        """The index over the labels of `task`."""
        return self._task_and_index[1]

    @cached_property
    def teacher(self) -> Teacher:
        """The model that reasons, checked on itself (`ctd.mechanism.self_check`).

        Raises ValueError for one that does not write rightly and, in a chapter about heads, for one whose heads cannot
        be read exactly.
        """
        from ctd.mechanism import self_check
        from ctd.reasoning import teachers

        with self.run.loading():
            teacher = teachers.load(self.settings.teacher, self.settings.document_tokens)
            heads = isinstance(self.settings, HeadSettings | Complementarity | MechanismSettings)
            language_model: Any = teacher.language_model  # read here, so no server
            self_check.require(language_model, heads)
        return teacher

    @cached_property
    def predictions(self) -> list[Prediction]:
        """What the teacher writes about each test document."""
        from ctd.reasoning import predict

        texts, uids = (list(self.task.documents["test"][column]) for column in ("text", "uid"))
        options = {"max_tokens": self.settings.max_tokens, "seed": self.settings.seed}
        return predict.reason(self.teacher, texts, self.index, uids=uids, **options)

    def read_task(self) -> Task:
        """The task that the settings name, with `n_documents` of its test documents where they limit them.

        A model that reasons by itself gets them as they are drawn: what it wrote about few is read again for more.
        What was left out of the task is said. Raises ValueError for a task without test documents.
        """
        settings = self.settings
        with self.run.loading():
            from ctd.book import report
            from ctd.data import readers

            task = readers.load_as_asked(settings.dataset, settings.source, *settings.columns)
        if left_out := readers.left_out(task):
            report.say(left_out)
        if not len(task.documents["test"]):
            raise ValueError(
                f"{task.card.title} has no test documents ({len(task.documents['train'])} to learn from): give more "
                "documents, or a test split of your own"
            )
        limit = getattr(settings, "n_documents", None)
        if limit is None:
            return task
        as_drawn = isinstance(settings, TeacherSettings) and self.teacher.natural
        return task.sample("test", limit, settings.seed, as_drawn)

    def other_task(self, name: str) -> Task:
        """Another whole task, by its name."""
        with self.run.loading():
            from ctd.data import readers

            return readers.load(name)

    def end_untestable(self, why: str) -> None:
        """Close the recorder with the reason; test documents that were read count as looked at."""
        recorded = {(row.metric, row.unit) for row in self.run.rows}
        if "_task_and_index" in vars(self) and ("documents", "documents") not in recorded:
            self.run.record("documents", len(self.task.documents["test"]), unit="documents")
        self.run.end_untestable(why)

    def fill(self, settings: type[T], **others: Any) -> T:
        """Settings of the package, such as `experiment.Plan`, with the parameters that have the names of its fields.

        settings: a dataclass.
        others: fields that no parameter sets.
        """
        values = self.settings.model_dump() | others
        return settings(**{field.name: values[field.name] for field in fields(settings) if field.name in values})  # type: ignore[arg-type]

    @cached_property
    def _task_and_index(self) -> tuple[Task, LabelIndex]:
        with self.run.loading():
            from ctd.reasoning import teachers
            from ctd.retrieval import encoders

            values = self.settings.model_dump()
            encoder = encoders.load(self.settings.encoder)
            return teachers.with_topics(self.read_task(), encoder, values.get("n_clusters", 0), values["seed"])


def start(model: type[Settings], values: Mapping[str, Any]) -> Chapter:
    """Begin a notebook: check its parameters, seed the generators, open the recorder, and set the plots' style.

    model: the settings of the chapter.
    values: the parameters among other names, such as `globals()`; a parameter that is not there has its default.
    Raises ValueError with one line for a value of another type or out of bounds.
    """
    parameters = parameters_of_model(model)
    settings = model(**{name: known.check(values[name]) for name, known in parameters.items() if name in values})
    plots.use_style()
    chapter = Chapter(settings, Recorder.start(seed=settings.seed))
    end_where_untestable(chapter)
    return chapter


def end_where_untestable(chapter: Chapter | Recorder) -> None:
    """Let a cell that raises NotTestable end the chapter with the reason, and say it in one line."""
    from IPython import get_ipython

    from ctd.mechanism.untestable import NotTestable

    def end(shell: Any, kind: type, error: Exception, *_: Any, **__: Any) -> list[str]:
        chapter.end_untestable(str(error))
        lines = [f"{kind.__name__}: {error}"]
        shell._showtraceback(kind, error, lines)
        return lines

    if shell := get_ipython():
        shell.set_custom_exc((NotTestable,), end)
