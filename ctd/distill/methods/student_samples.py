"""What a student as it stands writes about training documents.

Notes: its texts are kept by `ctd.reasoning.generate` under its weights, so that a training that was killed in a later
stage finds them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ctd.cache import digest
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.reasoning import predict, read_text, traces
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import Trace


def in_place_of_teacher(experiment: Experiment, student: Any) -> Teacher:
    """The student as it stands, asked as the teacher is."""
    student.eval()
    weights = digest(weight.detach().float().cpu().numpy().tobytes() for weight in student.parameters())
    model = LanguageModel("student", student, experiment.language_model.tokenizer, weights)
    return replace(experiment.teacher, language_model=model)


class OwnText(NamedTuple):
    """A text of the student.

    example: its tokens as they were drawn.
    trace: what they say, as free text is read: few texts drawn so are in the format.
    """

    example: Example
    trace: Trace


def own_texts(experiment: Experiment, student: Any, documents: Sequence[Trace], n_each: int = 1) -> list[OwnText]:
    """Texts that the student draws from its own distribution, without a grammar, those about a document in a row.

    documents: traces of the documents that it writes about.
    n_each: texts about each.
    """
    tokenizer, space = experiment.language_model.tokenizer, experiment.task.space
    repeated = [trace for trace in documents for _ in range(n_each)]
    prompts = [trace.prompt + traces.OPEN for trace in repeated]
    completions = generate(
        in_place_of_teacher(experiment, student).language_model,
        prompts,
        Sampling(experiment.plan.max_tokens, 1.0),
        Limits(predict.BATCH_TOKENS),
        desc="the student's own texts",
    )
    texts = []
    for prompt, completion, trace in zip(prompts, completions, repeated, strict=True):
        read: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        end = [tokenizer.eos_token_id] if completion.finished else []
        trace_written = read_text.read(traces.OPEN + completion.text, space, uid=trace.uid, document=trace.document)
        texts.append(OwnText(Example([*read, *completion.ids, *end], len(read)), trace_written))
    return texts
