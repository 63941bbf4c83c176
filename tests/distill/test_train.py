"""The training loop: the loss and its gradients, the batches, and that a killed run ends where it would have."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from ctd.cache import ROOT
from ctd.distill import checkpoint, train
from ctd.distill.examples import Example, batches, check, collate
from ctd.distill.lora import MergedLoRA
from ctd.distill.settings import Settings
from ctd.distill.token_loss import token_loss

SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip
SHORT = Settings(batch_tokens=60, learning_rate=1e-2, warmup_steps=2, epochs=2, shuffle=8, save_every=3, check_every=4)


def tiny(layout="Llama", seed=0, dtype=torch.float32, **changes):
    """A random model of two layers, in eval mode as `models.load` gives it."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{layout}Config")(**SHAPE | changes)
    return transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()


def make_examples(n=20, seed=0, shortest=4, longest=12):
    """Random examples whose prompt is a third of them."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, n)
    return [Example(rng.integers(1, 40, length).tolist(), int(length) // 3) for length in lengths]


def plain_loss(model, batch):
    """The same loss by the library's own logits."""
    logits = model(input_ids=batch.ids).logits
    return cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100, reduction="sum")


@pytest.mark.parametrize("layout", ["Llama", "Qwen3"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_loss_and_gradients_are_those_of_the_logits(layout, tied, dtype, tolerance, monkeypatch):
    monkeypatch.setattr("ctd.distill.token_loss.LOGITS_AT_ONCE", 7)  # several pieces, the last one smaller
    model = tiny(layout, dtype=dtype, tie_word_embeddings=tied)
    batch = collate(make_examples(), range(20))
    gradients = []
    for loss in (token_loss, plain_loss):
        model.zero_grad()
        value = loss(model, batch)
        (0.3 * value).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()} | {"loss": value.detach()})
    ours, expected = gradients
    assert ours.keys() == expected.keys()
    assert ("lm_head.weight" in ours) == (not tied)
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], rtol=tolerance, atol=tolerance, msg=name)
        assert ours[name].abs().max() > 1e-3


@pytest.mark.parametrize("trained", ["model.layers.0.mlp.up_proj.weight", "lm_head.weight"])
def test_gradients_are_right_where_one_weight_alone_trains(trained):
    model = tiny()
    batch = collate(make_examples(), range(20))
    for name, weight in model.named_parameters():
        weight.requires_grad_(name == trained)
    gradients = []
    for loss in (token_loss, plain_loss):
        model.zero_grad()
        loss(model, batch).backward()
        gradients.append(model.get_parameter(trained).grad.clone())
        assert [name for name, weight in model.named_parameters() if weight.grad is not None] == [trained]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_a_bfloat16_model_has_its_loss_summed_in_float32():
    model = tiny(dtype=torch.bfloat16)
    batch = collate(make_examples(), range(20))
    value = token_loss(model, batch)
    assert value.dtype == torch.float32
    exact = plain_loss(model.float(), batch)
    assert value.item() == pytest.approx(exact.item(), rel=0.01)


def test_loss_and_gradients_do_not_depend_on_padding():
    examples, gradients = make_examples(shortest=3, longest=30), []
    for groups in ([range(20)], [[row] for row in range(20)]):
        model = tiny(dtype=torch.float64)
        losses = [token_loss(model, collate(examples, rows)) for rows in groups]
        sum(losses).backward()
        gradients.append([sum(losses).detach(), *(weight.grad for weight in model.parameters())])
    for together, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_targets_are_the_next_tokens_and_no_prompt_is_learned():
    batch = collate([Example([5, 6, 7, 8], 2), Example([9, 10], 1), Example([1, 2, 3], 0)], [0, 1, 2])
    assert batch.ids.tolist() == [[5, 6, 7, 8], [9, 10, 0, 0], [1, 2, 3, 0]]
    assert batch.targets.tolist() == [[-100, 7, 8, -100], [10, -100, -100, -100], [2, 3, -100, -100]]
    assert batch.rows == (0, 1, 2)


def test_what_is_only_read_is_no_target_and_still_seen(tmp_path):
    learned, read = Example([5, 6, 7, 8, 9], 2), Example([5, 6, 7, 8, 9], 2, ((2, 3), (3, 4)))
    batch = collate([learned, read], [0, 1])
    assert batch.ids[0].tolist() == batch.ids[1].tolist()
    assert batch.targets[1].tolist() == [-100, -100, -100, 9, -100]
    model = tiny()
    log_p = model(batch.ids[1:]).logits.log_softmax(-1)
    assert train.evaluate(model, [read]) == pytest.approx(-log_p[0, 3, 9].item(), rel=1e-5)
    train.train(model, [learned] * 3, SHORT, tmp_path)
    with pytest.raises(ValueError, match="is of a run with other examples"):
        train.train(model, [read] * 3, SHORT, tmp_path)


@pytest.mark.parametrize("span", [(1, 3), (3, 3), (4, 6)])
def test_what_is_only_read_lies_in_the_target(span, tmp_path):
    bad = Example([5, 6, 7, 8, 9], 2, (span,))
    with pytest.raises(ValueError, match=f"must lie in the target .tokens 2 to 4.*got {span[0]}..{span[1] - 1}"):
        train.train(tiny(), [bad], SHORT, tmp_path)


def test_the_end_may_be_only_read_and_something_must_be_learned(tmp_path):
    batch = collate([Example([5, 6, 7, 8, 9], 2, ((3, 5),))], [0])
    assert batch.targets[0].tolist() == [-100, 7, -100, -100, -100]
    with pytest.raises(ValueError, match="example 0 leaves nothing to learn: all of its target is only read"):
        train.train(tiny(), [Example([5, 6, 7, 8, 9], 2, ((2, 4), (4, 5)))], SHORT, tmp_path)


def test_a_weight_is_what_a_token_counts():
    model, plain = tiny(), Example([5, 6, 7, 8, 9], 2)
    halved = plain._replace(weights=((2, 4, 0.5), (4, 5, 2.0)))
    parts = [train.evaluate(model, [plain._replace(only_read=spans)]) for spans in (((4, 5),), ((2, 4),))]
    assert token_loss(model, collate([halved], [0])).item() == pytest.approx(parts[0] + 2 * parts[1], rel=1e-5)
    with pytest.raises(ValueError, match="weights must be at least 0 and of tokens 2 to 4, got -1 of 2..2"):
        check([plain._replace(weights=((2, 3, -1),))])


@pytest.mark.parametrize("shuffle", [1, 7, 512])
@pytest.mark.parametrize("epochs", [1, 3])
def test_batches_hold_every_example_once_an_epoch_within_their_bound(shuffle, epochs):
    examples = [*make_examples(100, seed=3), Example(list(range(39)), 2)]
    settings = Settings(batch_tokens=30, shuffle=shuffle, epochs=epochs)
    steps = batches(examples, settings)
    assert Counter(row for rows in steps for row in rows) == dict.fromkeys(range(101), epochs)
    padded = [len(rows) * max(len(examples[row].ids) for row in rows) for rows in steps]
    assert all(tokens <= 30 or len(rows) == 1 for tokens, rows in zip(padded, steps, strict=True))
    seen = [row for rows in steps for row in rows][:101]
    assert sorted(seen) == list(range(101))
    assert all(abs(place - row) < shuffle for place, row in enumerate(seen))


def test_batches_depend_on_the_seed_and_on_nothing_else():
    examples, settings = make_examples(100), Settings(batch_tokens=50)
    assert batches(examples, settings) == batches(examples, replace(settings, clip=3.0))
    assert batches(examples, settings) != batches(examples, replace(settings, seed=1))


def test_batches_are_full():
    steps = batches(make_examples(500), Settings(batch_tokens=120))
    tokens = [len(rows) * 12 for rows in steps]
    assert len(steps) < 60
    assert np.mean(tokens) > 90


def test_a_tiny_set_is_learned_by_heart(tmp_path):
    model, examples = tiny(), make_examples(6)
    before = train.evaluate(model, examples)
    log = train.train(model, examples, replace(SHORT, epochs=80, clip=10.0), tmp_path, validation=examples)
    assert before > 3
    assert train.evaluate(model, examples) < 0.05
    # Two sums of float32 losses: their order, which the threads choose, moves them by 1e-7 nats.
    assert log[-1]["validation"] == pytest.approx(train.evaluate(model, examples), abs=1e-6)
    assert not model.training
    for ids, n_prompt, *_ in examples:
        written = model.generate(torch.tensor([ids[:n_prompt]]), max_new_tokens=len(ids) - n_prompt, do_sample=False)
        assert written[0].tolist() == ids


def test_frozen_weights_stay_and_trained_ones_move(tmp_path):
    model = tiny()
    model.model.embed_tokens.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train.train(model, make_examples(), SHORT, tmp_path)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == before.keys() - {"model.embed_tokens.weight"}


def test_the_log_says_what_was_done(tmp_path):
    examples = make_examples()
    log = train.train(tiny(), examples, SHORT, tmp_path, validation=make_examples(3, seed=9))
    steps = batches(examples, SHORT)
    table = pd.read_csv(tmp_path / "log.csv")
    pd.testing.assert_frame_equal(table, pd.DataFrame(log))
    assert table["step"].tolist() == list(range(len(steps)))
    assert table["tokens"].tolist() == [len(r) * max(len(examples[row].ids) for row in r) for r in steps]
    checked = (table["step"] % 4 == 3) | (table["step"] == len(steps) - 1)
    assert table["validation"].notna().tolist() == checked.tolist()


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"warmup_steps": 4, "decay": 0.5}, [0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]),
        ({"warmup_steps": 0, "decay": 0.2}, [1] * 9 + [0.5]),
        ({"warmup_steps": 0, "decay": 0}, [1] * 10),
        ({"warmup_steps": 0, "decay": 0.3, "fall": "cosine"}, [1] * 8 + [0.75, 0.25]),
        ({"warmup_steps": 20, "decay": 1}, [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.3, 0.2, 0.1]),
    ],
)
def test_the_learning_rate_rises_stays_and_falls(options, rates, tmp_path):
    settings = Settings(batch_tokens=1, learning_rate=1e-3, shuffle=1, **options)
    log = train.train(tiny(), make_examples(10), settings, tmp_path)
    assert [row["rate"] for row in log] == pytest.approx([1e-3 * rate for rate in rates])


class Killed(Exception):
    """What the tests kill a run with."""


def run(folder, adapted, killed_at=None, save_every=3, loss=token_loss, settings=SHORT):
    """A run from the same start: log, less seconds, and weights; killed in the given step if any."""
    model = tiny(attention_dropout=0.2)
    calls = iter(range(1000))

    def hooked(model, batch):
        if model.training and next(calls) == killed_at:
            raise Killed
        return loss(model, batch)

    adapters = MergedLoRA(model, 2, 4.0) if adapted else None
    options = {"adapters": adapters, "validation": make_examples(3, seed=9), "loss": hooked}
    log = train.train(model, make_examples(), replace(settings, save_every=save_every), folder, **options)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in log], list(model.parameters())


def assert_same(first, second):
    """Logs and weights, to the last bit."""
    pd.testing.assert_frame_equal(pd.DataFrame(first[0]), pd.DataFrame(second[0]), check_exact=True)
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("save_every", [1, 3])
def test_a_run_killed_at_a_random_step_ends_as_if_it_had_not_been(tmp_path, adapted, save_every):
    whole = run(tmp_path / "whole", adapted, save_every=save_every)
    for trial, step in enumerate(np.random.default_rng(save_every).integers(0, len(whole[0]), 10)):
        folder = tmp_path / str(trial)
        with pytest.raises(Killed):
            run(folder, adapted, killed_at=step, save_every=save_every)
        assert (folder / "checkpoint.pt").exists() == (step >= save_every)
        assert_same(whole, run(folder, adapted, save_every=save_every))


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    whole = run(tmp_path / "whole", adapted=True, save_every=1)
    for _ in range((len(whole[0]) - 1) // 2):
        with pytest.raises(Killed):
            run(tmp_path / "killed", adapted=True, killed_at=2, save_every=1)
    assert_same(whole, run(tmp_path / "killed", adapted=True, save_every=1))


@pytest.mark.parametrize("written", ["checkpoint.pt", "log.csv"])
@pytest.mark.parametrize("nth", [0, 1, -1])
def test_a_run_killed_while_it_writes_ends_as_if_it_had_not_been(tmp_path, monkeypatch, written, nth):
    whole = run(tmp_path / "whole", adapted=True)
    n_writes = -(-len(whole[0]) // 3)
    left = iter([False] * (nth % n_writes) + [True] + [False] * n_writes)
    real, atomic = torch.save, checkpoint.atomic

    def torn(state, path):
        real(state, path)
        if next(left):
            path.write_bytes(path.read_bytes()[:500])
            raise Killed

    def refusing(path):
        if path.name == "log.csv" and next(left):
            raise Killed
        return atomic(path)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if written == "log.csv":
            patch.setattr(checkpoint, "atomic", refusing)
        else:
            patch.setattr(torch, "save", torn)
        run(tmp_path / "killed", adapted=True)
    assert not list((tmp_path / "killed").glob("*.partial"))
    again = run(tmp_path / "killed", adapted=True)
    assert_same(whole, again)
    log = pd.read_csv(tmp_path / "killed" / "log.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(log, pd.DataFrame(again[0]))


def test_a_finished_run_is_not_trained_again(tmp_path):
    whole = run(tmp_path, adapted=False)
    assert_same(whole, run(tmp_path, adapted=False, killed_at=0))


def test_dropout_is_at_work_and_the_callers_random_numbers_are_left_alone(tmp_path):
    dropping = run(tmp_path / "a", adapted=False)
    model = tiny(attention_dropout=0.0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    log = train.train(model, make_examples(), SHORT, tmp_path / "b")
    assert torch.equal(torch.rand(3), expected)
    assert log[0]["loss"] != dropping[0][0]["loss"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    examples = make_examples()
    train.train(tiny(), examples, SHORT, tmp_path)
    saved = (tmp_path / "checkpoint.pt").read_bytes()
    longer_prompt = [examples[0]._replace(n_prompt=examples[0].n_prompt + 1), *examples[1:]]
    wider = tiny(hidden_size=64)
    adapters = MergedLoRA(tiny(), 2, 4.0)
    for model, inputs, settings, more in (
        (tiny(), examples[:-1], SHORT, {}),
        (tiny(), longer_prompt, SHORT, {}),
        (tiny(), examples, replace(SHORT, learning_rate=1e-3), {}),
        (wider, examples, SHORT, {}),
        (tiny(), examples, SHORT, {"adapters": adapters}),
    ):
        message = "checkpoint.pt is of a run with other examples, settings or weights: remove it to begin anew"
        with pytest.raises(ValueError, match=message):
            train.train(model, inputs, settings, tmp_path, **more)
    assert (tmp_path / "checkpoint.pt").read_bytes() == saved


def test_a_loss_or_gradient_that_is_no_number_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path):
    def spoiled(model, batch, factor):
        return token_loss(model, batch) * factor(model)

    def bent(model):  # the value stays finite, its gradient does not
        return 1 + torch.sqrt((model.lm_head.weight[0, 0] - model.lm_head.weight[0, 0].detach()).abs())

    for name, factor in (("nan", lambda model: float("nan")), ("norm", bent)):
        calls = iter([lambda model: 1.0] * 2 + [factor])
        with pytest.raises(ValueError, match="the loss of step 2 is .*: lower learning_rate, or use float32") as caught:
            train.train(
                tiny(), make_examples(), replace(SHORT, save_every=1), tmp_path / name,
                loss=lambda model, batch, calls=calls: spoiled(model, batch, next(calls)),
            )  # fmt: skip
        assert "\n" not in str(caught.value)
        weights = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["weights"]
        assert all(weight.isfinite().all() for weight in weights)
        assert len(pd.read_csv(tmp_path / name / "log.csv")) == 2


ODD = {
    "Gemma2": {"final_logit_softcapping": 30.0},
    "Granite": {"logits_scaling": 8.0},
    "Cohere": {"logit_scale": 0.0625},
    "Phi": {},  # its output layer has a bias
}


class Learned(torch.nn.Module):
    """A loss with a weight of its own, which has no values before it is brought to a device: like one that lies on
    another than the model.
    """

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(1, device="meta"))
        self.brought = []

    def to(self, device):
        self.brought.append(device)
        self.weight = torch.nn.Parameter(torch.ones(1, device=device))
        return self

    def forward(self, model, batch):
        return plain_loss(model, batch) + batch.n_targets * self.weight.square().sum()


def test_what_a_loss_learns_along_lies_where_the_model_does(tmp_path):
    loss, model = Learned(), tiny()
    train.train(model, make_examples(), SHORT, tmp_path, loss=loss)
    assert loss.brought == [torch.device("cpu")]
    assert 0 < loss.weight.item() < 1, "and it is learned"


@pytest.mark.parametrize("layout", ODD)
def test_families_whose_logits_are_more_than_one_matrix_are_refused(layout, tmp_path):
    model = tiny(layout, **ODD[layout], pad_token_id=0)
    for call in (
        lambda: train.train(model, make_examples(), SHORT, tmp_path),
        lambda: train.evaluate(model, make_examples()),
    ):
        with pytest.raises(ValueError, match=f"{layout}ForCausalLM scales, caps or shifts its logits") as caught:
            call()
        assert "\n" not in str(caught.value)
    before = train.evaluate(model, make_examples(), loss=plain_loss)
    train.train(model, make_examples(), SHORT, tmp_path, loss=plain_loss)
    assert train.evaluate(model, make_examples(), loss=plain_loss) < before


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("Granite", {"logits_scaling": 1.0}),
        ("Gemma2", {"final_logit_softcapping": None}),
        ("Mistral", {}),
        ("Olmo2", {}),
        ("Phi3", {}),
        ("Qwen2", {}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_families_whose_logits_are_one_matrix_are_taken(layout, options, dtype):
    model = tiny(layout, dtype=dtype, **options, pad_token_id=0)
    model.train()
    batch = collate(make_examples(), range(20))
    n_targets = (batch.targets != -100).sum().item()
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    exact = plain_loss(model.eval(), batch).item() / n_targets
    assert train.evaluate(model, make_examples()) == pytest.approx(exact, rel=tolerance)


def test_a_zero_output_layer_is_taken():
    model = tiny()
    torch.nn.init.zeros_(model.lm_head.weight)
    assert train.evaluate(model, make_examples()) == pytest.approx(np.log(40))


@pytest.mark.parametrize("training", [False, True])
def test_evaluation_is_a_mean_over_tokens_and_leaves_the_model_alone(training):
    model, examples = tiny(attention_dropout=0.5), make_examples(30)
    before = [p.detach().clone() for p in model.parameters()]
    model.train(training)
    means = [train.evaluate(model, examples, batch_tokens) for batch_tokens in (1, 50, 4096)]
    assert model.training == training
    assert all(p.grad is None and torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    model.eval()
    batch = collate(examples, range(30))
    exact = plain_loss(model, batch).item() / sum(len(ids) - n_prompt for ids, n_prompt, *_ in examples)
    assert means == pytest.approx([exact] * 3, rel=1e-5)


def test_examples_that_teach_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is nothing to learn from: no example was given"):
        train.train(tiny(), [], SHORT, tmp_path)
    with pytest.raises(ValueError, match="there is nothing to evaluate on: no example was given"):
        train.evaluate(tiny(), [])
    for bad, share in ((Example([1, 2, 3], 3), "3 of 3"), (Example([1], 0), "1 of 1"), (Example([], 0), "1 of 0")):
        with pytest.raises(ValueError, match=f"example 1 leaves nothing to learn: the first {share} tokens are given"):
            train.train(tiny(), [make_examples()[0], bad], SHORT, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: 0}, f"{name} must be at least 1, got 0") for name in ("batch_tokens", "epochs", "shuffle")),
        *(({name: 0}, f"{name} must be at least 1, got 0") for name in ("save_every", "check_every")),
        *(({name: 0.0}, f"{name} must be above 0, got 0.0") for name in ("learning_rate", "clip")),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        *(({name: -1}, f"{name} must be at least 0, got -1") for name in ("warmup_steps", "weight_decay", "seed")),
        *(({name: -1}, f"{name} must be at least 0, got -1") for name in ("pass_tokens", "patience", "n_steps")),
        ({"decay": 1.5}, "decay must be between 0 and 1, got 1.5"),
        ({"fall": "steep"}, "fall must be linear or cosine, got 'steep'"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Settings(**options)


def test_every_setting_changes_the_run(tmp_path):
    """Each but those that say when to save and to look."""

    def losses(settings):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return [row["loss"] for row in train.train(tiny(), make_examples(), settings, folder)]

    usual = losses(SHORT)
    changes = {
        "batch_tokens": 40, "learning_rate": 1e-3, "warmup_steps": 5, "decay": 0.9, "weight_decay": 0.5, "clip": 0.1,
        "epochs": 1, "shuffle": 1, "seed": 1, "fall": "cosine", "mixed": True, "pass_tokens": 20, "n_steps": 2,
    }  # fmt: skip
    assert changes.keys() | {"save_every", "check_every", "patience"} == asdict(SHORT).keys()
    for name, value in changes.items():
        assert losses(replace(SHORT, **{name: value})) != usual, name
    assert losses(replace(SHORT, save_every=1, check_every=1)) == usual


def test_the_loss_falls_while_training(tmp_path):
    log = train.train(tiny("Qwen3"), make_examples(6), replace(SHORT, epochs=20), tmp_path, validation=make_examples(6))
    seen = [row["validation"] for row in log if np.isfinite(row["validation"])]
    assert len(seen) > 3
    assert all(later < earlier for earlier, later in pairwise(seen[:3]))
    assert seen[-1] < 0.5 * seen[0]


@pytest.mark.parametrize("pass_tokens", [1, 25])
def test_a_batch_in_several_passes_is_the_same_step(pass_tokens, tmp_path):
    ends = []
    for number, settings in enumerate((SHORT, replace(SHORT, pass_tokens=pass_tokens))):
        model, seen = tiny(dtype=torch.float64), []

        def noting(model, batch, seen=seen):
            seen.append(batch.ids.numel())
            return plain_loss(model, batch)

        log = train.train(model, make_examples(), settings, tmp_path / str(number), loss=noting)
        ends.append((model, [row["loss"] for row in log], seen))
    (whole, losses, passes), (parted, same, more) = ends
    assert same == pytest.approx(losses, rel=1e-9)
    for expected, actual in zip(whole.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(expected, actual, rtol=1e-6, atol=1e-8)
    assert len(more) > len(passes)
    assert max(more) <= max(pass_tokens, 12), "one example of 12 tokens goes through alone"


def test_mixed_precision_leaves_the_weights_in_float32(tmp_path):
    model = tiny()
    kinds = set()

    def noting(model, batch):
        kinds.add(model.model.layers[0].mlp.up_proj(model.model.embed_tokens(batch.ids)).dtype)
        return token_loss(model, batch)

    train.train(model, make_examples(), replace(SHORT, mixed=True), tmp_path, loss=noting)
    assert kinds == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


class TestPatience:
    """Learning one set by heart makes another worse: the lowest validation loss comes early."""

    settings = replace(SHORT, epochs=60, check_every=2, patience=3, save_every=5)
    watched = make_examples(8, seed=9)

    def train(self, folder, settings, loss=token_loss):
        model = tiny()
        return model, train.train(model, make_examples(), settings, folder, validation=self.watched, loss=loss)

    def test_training_ends_and_the_weights_are_those_of_the_lowest_loss(self, tmp_path):
        whole = self.train(tmp_path / "whole", replace(self.settings, patience=0))[1]
        model, log = self.train(tmp_path / "ended", self.settings)
        looks = [row["validation"] for row in log if np.isfinite(row["validation"])]
        assert len(log) < len(whole)
        assert len(looks) - 1 - looks.index(min(looks)) == 3
        assert [row["loss"] for row in log] == [row["loss"] for row in whole][: len(log)]
        assert train.evaluate(model, self.watched) == pytest.approx(min(looks), abs=1e-6)
        assert min(looks) < looks[-1] - 1e-3

    def test_a_run_killed_at_any_look_ends_as_if_it_had_not_been(self, tmp_path):
        model, log = self.train(tmp_path / "whole", self.settings)
        for step in range(0, len(log), 3):
            calls = iter(range(1000))

            def dying(model, batch, calls=calls, step=step):
                if model.training and next(calls) == step:
                    raise Killed
                return token_loss(model, batch)

            with pytest.raises(Killed):
                self.train(tmp_path / str(step), self.settings, dying)
            again, same = self.train(tmp_path / str(step), self.settings)
            assert [row["loss"] for row in same] == [row["loss"] for row in log]
            assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))

    def test_needs_something_to_watch(self, tmp_path):
        with pytest.raises(ValueError, match="patience needs validation examples"):
            train.train(tiny(), make_examples(), self.settings, tmp_path)


SHARED = """
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from torch.distributed.fsdp import fully_shard

from ctd.distill import train
from tests.distill.test_train import SHARED_RUNS, SHORT, Killed, make_examples, plain_loss, tiny


def cut(self, taught, optimizer):  # as accelerate does on GPUs: it refuses to on CPUs
    for layer in taught.model.model.layers:
        fully_shard(layer)
    fully_shard(taught)
    optimizer.param_groups[0]["params"] = list(taught.parameters())
    return taught, optimizer


def dying(model, batch):
    if batch.done > 0.5:
        raise Killed
    return plain_loss(model, batch)


for how, pass_tokens in SHARED_RUNS:
    folder = Path(sys.argv[1]) / f"{how}-{pass_tokens}"
    settings = replace(SHORT, pass_tokens=pass_tokens, patience=2, save_every=1)
    if how == "FSDP":
        Accelerator.prepare, Accelerator.is_fsdp2 = cut, True
    with suppress(Killed):
        model = tiny(dtype=torch.float64)
        train.train(model, make_examples(7), settings, folder, validation=make_examples(3, seed=9), loss=dying)
    assert (folder / "checkpoint.pt").exists()
    model = tiny(dtype=torch.float64)
    train.train(model, make_examples(7), settings, folder, validation=make_examples(3, seed=9), loss=plain_loss)
    assert PartialState().num_processes == 2
    torch.save(list(model.parameters()), folder / f"{PartialState().process_index}.pt")
"""
SHARED_RUNS = [("DDP", 0), ("DDP", 13), ("FSDP", 13)]  # FSDP last: it changes Accelerator


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What two processes made in each of the runs, which they make one after another."""
    folder = tmp_path_factory.mktemp("shared")
    script = folder / "shared.py"
    script.write_text(SHARED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    set_ = {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script), str(folder)], capture_output=True, text=True, env=os.environ | set_)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize(("how", "pass_tokens"), SHARED_RUNS)
def test_two_processes_end_as_one(shared, how, pass_tokens, tmp_path):
    """Killed half-way and begun again; with steps of which the second process has no example."""
    two = shared / f"{how}-{pass_tokens}"
    model = tiny(dtype=torch.float64)
    settings = replace(SHORT, patience=2)
    log = train.train(
        model, make_examples(7), settings, tmp_path / "one", validation=make_examples(3, seed=9), loss=plain_loss
    )
    assert min(len(rows) for rows in batches(make_examples(7), settings)) < 2
    assert pd.read_csv(two / "log.csv")["loss"].tolist() == pytest.approx([row["loss"] for row in log], rel=1e-9)
    for process in (0, 1):
        for expected, actual in zip(model.parameters(), torch.load(two / f"{process}.pt"), strict=True):
            torch.testing.assert_close(expected, actual, rtol=1e-6, atol=1e-8)
