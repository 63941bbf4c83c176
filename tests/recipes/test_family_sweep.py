"""Tiny models of the library's families: what the table says of each is so, and what is exact is eager attention's."""

import pandas as pd
import pytest
import torch
import transformers

from ctd.mechanism import attention
from ctd.reasoning import probe
from ctd.recipes import family_sweep, tiny_models

ROWS = pd.read_csv(family_sweep.TABLE, keep_default_na=False).to_dict("records")
VERSION = {row.pop("transformers") for row in ROWS}
TABLE = [family_sweep.Outcome(**row) for row in ROWS]
OUTCOMES = {outcome.family: outcome for outcome in TABLE}
SOME = ["llama", "qwen3", "gemma2", "olmo2", "gpt2", "lfm2", "minicpm3", "falcon", "gpt_oss", "qwen3_next", "xlm"]
EXACT = [outcome.family for outcome in TABLE if outcome.heads == family_sweep.EXACT]
OTHERS = [pytest.param(kind, marks=pytest.mark.slow) for kind in OUTCOMES if kind not in SOME]


def test_the_table_has_every_family_of_the_library():
    assert {transformers.__version__} == VERSION
    assert sorted(OUTCOMES) == tiny_models.families()


def test_every_family_is_exact_or_refused_in_one_line():
    for outcome in TABLE:
        assert {outcome.writes, outcome.heads} <= {family_sweep.EXACT, family_sweep.REFUSED}
        assert (outcome.reason == "") == (outcome.heads == family_sweep.EXACT)
        assert "\n" not in outcome.reason


@pytest.mark.parametrize("kind", [*SOME, *OTHERS])
@pytest.mark.usefixtures("own_cache")
def test_a_family_is_as_the_table_says(kind):
    assert family_sweep.outcome(kind) == OUTCOMES[kind]


@pytest.mark.parametrize(
    "kind", [kind if kind in SOME else pytest.param(kind, marks=pytest.mark.slow) for kind in EXACT]
)
@torch.no_grad()
def test_the_patterns_of_an_exact_family_are_those_of_eager_attention(kind):
    model = tiny_models.build(kind)
    batch = probe.padded_batch(model)
    real = batch["attention_mask"].bool()
    with attention.record(model) as seen:
        model(**batch, use_cache=False)
    model.set_attn_implementation("eager")
    attentions = model(**batch, use_cache=False, output_attentions=True).attentions or ()
    eager = [pattern for pattern in attentions if pattern is not None]
    if len(eager) != len(seen.patterns):
        pytest.skip("the library gives no patterns of its own")
    for layer, pattern in enumerate(eager):
        rows = seen.patterns[layer][0].transpose(1, 2)[real]
        torch.testing.assert_close(rows, pattern.transpose(1, 2)[real], rtol=1e-3, atol=1e-5)
