"""Small makers of what the cache holds: one of each kind, over tiny random models.

Each takes the folder for what it trains, works in the cache of CTD_CACHE, and returns what it made as bytes.
"""

import json

import numpy as np

from ctd import hardware
from ctd.data import readers
from ctd.data.label_space import LabelSpace
from ctd.distill import teacher_states, trace_signals, train
from ctd.distill.settings import Settings
from ctd.reasoning.grammar import LabelLists
from ctd.retrieval import encoders, shards
from ctd.retrieval.index import LabelIndex
from tests.conftest import HashEncoder
from tests.distill.test_signals import CHOSEN
from tests.distill.test_train import make_examples as examples
from tests.distill.test_train import tiny
from tests.mechanism.test_attention import build_model as model_with_heads
from tests.mechanism.test_heads import PASSAGES
from tests.reasoning import test_generate

TEXTS = [f"calcium {n} in the {part}" for part in ("liver", "heart", "blood") for n in range(90)]
SPACE = LabelSpace("many", [str(n) for n in range(270)], TEXTS, 270, np.full(270, -1, np.int32))
LESSON = Settings(batch_tokens=60, learning_rate=1e-2, epochs=2, shuffle=8, save_every=2)
_inputs = {}


def _input(name, make):
    """What a maker works with, made once a process."""
    if name not in _inputs:
        _inputs[name] = make()
    return _inputs[name]


def vectors(folder):
    return encoders.encode(_input("encoder", HashEncoder), TEXTS).tobytes()


def index(folder):
    built = LabelIndex.build(SPACE, _input("encoder", HashEncoder), "ivfpq")
    return b"".join(part.tobytes() for part in built.search(TEXTS[::40], 5))


def grammar(folder):
    lists = LabelLists(SPACE, _input("tokenizer", test_generate.byte_level))
    return lists.lines.tobytes()


def prepare(folder):
    """Write the data that `task` reads."""
    source = folder.with_suffix(".jsonl")
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("".join(json.dumps({"text": text, "labels": [text.split()[-1]]}) + "\n" for text in TEXTS))


def task(folder):
    loaded = readers.load("records", source=str(folder.with_suffix(".jsonl")))
    return json.dumps([list(part) for part in loaded.documents.values()]).encode()


def generation(folder):
    teacher = _input("teacher", lambda: test_generate.tiny(test_generate.byte_level()))
    written = test_generate.write(teacher, test_generate.PROMPTS, max_tokens=20, batch_tokens=200, temperature=0)
    return repr(written).encode()


def signals(folder):
    model = _input("heads", lambda: model_with_heads("llama"))
    read = trace_signals.stored(model, "tiny", PASSAGES, CHOSEN)
    return b"".join(getattr(trace, name).tobytes() for trace in read for name in ("attention", "write1", "split"))


def states(folder):
    model = _input("states", tiny)
    stored = teacher_states.stored(model, "tiny", examples())
    return stored._states.numpy().tobytes()


def training(folder):
    model = tiny()
    log = train.train(model, examples(), LESSON, folder)
    numbers = [{name: value for name, value in row.items() if name != "seconds"} for row in log]
    weights = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
    return json.dumps(numbers).encode() + weights


MAKERS = {maker.__name__: maker for maker in (vectors, index, grammar, task, generation, signals, states, training)}


def make_small():
    """In a process of its own: work is cut into more pieces, and the machine is not measured."""
    shards.SIZE = 100
    hardware.seconds_to_read = lambda model, n_tokens: 0.01
