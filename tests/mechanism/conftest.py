"""Chains of thought, curves and fixtures that several test modules share."""

import numpy as np
import pytest

from ctd.mechanism import cot_prefixes, targets
from ctd.mechanism.curve_means import GRID
from ctd.mechanism.trajectories import Trajectories
from ctd.reasoning.traces import Trace
from tests.mechanism import test_attention as attention

COTS = [
    "Topics: heart\nShortlist:\n- Left heart\n- Right heart\nCompare:\nleft side, not right side",
    "Topics: minerals\nShortlist:\n- Calcium/blood\n- Calcium/metabolism\nCompare:\nserum calcium in the blood",
    "Topics: organs\nShortlist:\n- Liver\n- Calcium\nCompare:\nliver tissue rather than bone",
]
DOCUMENTS = ["the left heart fails", "serum calcium was high", "a liver was removed"]
GOLD = [[5], [2], [3]]
NEAR = [[6], [1, 0], [4]]
ANCHORS = [[7], [0], [3]]


def trace(cot, document="a document", uid="u"):
    return Trace(uid, document, cot, ("Liver",))


def trajectories_from(curves, boundary=np.nan, **others):
    """Trajectories whose every metric is the same curves, but for those given."""
    curves = np.asarray(curves, float)
    named = {name: np.asarray(others.get(name, curves), float) for name in ("focus", "focus_document", "confusion")}
    gold = np.asarray(others.get("gold", np.zeros_like(curves)), float)
    return Trajectories(GRID, np.broadcast_to(boundary, len(curves)).astype(float), gold=gold, **named)


def hinge(t, start, before, after, joint):
    return start + before * np.minimum(t, joint) + after * np.maximum(t - joint, 0)


@pytest.fixture
def written(encoder, own_cache):
    return cot_prefixes.embed_prefixes([trace(cot) for cot in COTS], encoder)


@pytest.fixture
def goals(encoder, space, own_cache):
    return targets.embed_targets(DOCUMENTS, GOLD, NEAR, ANCHORS, space, encoder)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def llama():
    return attention.build_model("llama")
