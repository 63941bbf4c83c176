"""A small explorer: three documents, labels that are scripts, and a model of eight heads with random weights."""

from dataclasses import replace

import numpy as np
import pytest
import transformers
from datasets import DatasetDict

from ctd.book.explorer import collection, heads, make
from ctd.book.explorer.collection import Collection, Loaded
from ctd.data.label_space import LabelSpace
from ctd.data.task import Card, Task, splits_of
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import prompts, trace_parser, traces
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.token_spans import tokenize
from ctd.retrieval.index import LabelIndex
from tests.conftest import HashEncoder
from tests.reasoning.test_prompts import byte_level

IMAGE = '<img src=x onerror="window.stolen = 1">'
SCRIPT = "</script><script>window.stolen = 1</script>"
LABELS = ["Left heart", "Right heart", IMAGE, SCRIPT, "Liver", "Liver/blood"]
SPACE = LabelSpace(
    "small", [*"abcdef", "top"], [*LABELS, "Organs"], 6, np.array([6, 6, 6, 6, 6, 4, -1], np.int32)
)  # fmt: skip
GOLD = [[0], [2, 5], [3]]
ANSWERS = [[0], [2], [1]]
PLANTED = {Phase.SHORTLIST: [Head(0, 1), Head(0, 3)], Phase.REFINE: [Head(1, 0), Head(1, 2)]}


def text(row):
    return (
        f"Report {row}: the heart failed <script>window.stolen = 1</script> and so on, for many words more than twelve."
    )


def language_model():
    tokenizer = byte_level([text(0)])
    tokenizer.pad_token = tokenizer.eos_token
    transformers.set_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    for weight in model.parameters():
        weight.data *= 1 if weight.ndim == 1 else 6  # patterns far from even
    return LanguageModel("small", model, tokenizer, "small")


def prediction(row, tokenizer):
    other = (GOLD[row][0] + 1) % 4
    compared = [f"{traces.mark(LABELS[GOLD[row][0]])} fits better than {traces.mark(LABELS[other])}."]
    listed = [LABELS[label] for label in (other, GOLD[row][0], 4)]
    written = traces.write("Organs", listed, compared, [LABELS[label] for label in ANSWERS[row]])
    trace = trace_parser.parse(written, SPACE, f"d{row}", text(row))
    prompt = prompts.plain(text(row))
    trace = replace(trace, prompt=prompt, tokens=tokenize(prompt + trace.text, tokenizer))
    return Prediction(trace, tuple(ANSWERS[row]), tuple(ANSWERS[row]), 10, True, 1, 1)


def load(settings, generated=True):
    rows = [{"uid": f"d{row}", "text": text(row), "labels": GOLD[row]} for row in range(3)]
    card = Card("Small <i>& sound</i>", "none", "made up", SCRIPT, generated=generated)
    task = Task(DatasetDict(splits_of({"test": rows, "train": rows})), SPACE, card)
    index = LabelIndex.build(SPACE, HashEncoder())
    if not settings.teacher:
        return Loaded(settings, task, index, 0, None, [])
    model = language_model()
    return Loaded(
        settings,
        task,
        index,
        0,
        Teacher(model, True, 100, {}, None),
        [prediction(r, model.tokenizer) for r in range(3)],
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """An explorer of two collections: the small model's, and one without a model."""
    out = tmp_path_factory.mktemp("explorer")
    settings = Collection(teacher="small", n_with_heads=2, n_silenced=1, max_tokens=8, n_near_misses=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(collection, "load", load)
        patch.setattr(heads, "planted_in", lambda teacher: PLANTED if teacher else {})
        return make.make([settings, replace(settings, teacher="")], out / "site").page.parent


@pytest.fixture
def loaded(own_cache):
    """What the explorer is made from."""
    return load(Collection(teacher="small", n_with_heads=2, n_silenced=1, max_tokens=8, n_near_misses=2))


@pytest.fixture
def silent_loaded(own_cache):
    """The same without a model, of documents that people wrote."""
    return load(Collection(teacher="", n_near_misses=2), generated=False)
