"""Arms share everything but their loss; students are kept and read again; tables against hand counts."""

import copy
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from scipy import stats as scipy_stats

from ctd import keys
from ctd.data import readers
from ctd.distill import checkpoint, experiment
from ctd.distill.experiment import Arm, Outcome, Plan
from ctd.distill.losses import Weights
from ctd.reasoning import teachers
from ctd.retrieval import encoders

PLAN = Plan(layers=5, n_traces=6, n_steps=3, n_test=4, max_tokens=200)
COT, FULL = Arm("cot", "cot"), Arm("mechanistic", "mechanistic", Weights())


@pytest.fixture(scope="module")
def school():
    task, index = teachers.with_topics(readers.load("organism"), encoders.load("wordllama"), 0)
    return experiment.school(teachers.load("organism"), task, index, PLAN)


def test_every_arm_learns_the_same_traces(school):
    tokenizer = school.language_model.tokenizer
    whole = school.examples(COT)
    assert len(whole) == len(school.passages) == 6
    for example, trace in zip(whole, school.traces, strict=True):
        text = tokenizer.decode(example.ids)
        assert text.endswith(f"{trace.answer[-1]}\n{tokenizer.eos_token}")
        assert tokenizer.decode(example.ids[: example.n_prompt]).endswith("<think>\n")
    for example, trace in zip(school.examples(Arm("answer", "answer")), school.traces, strict=True):
        learned = tokenizer.decode(example.ids[example.n_prompt :])
        assert learned == "".join(f"- {text}\n" for text in trace.answer) + tokenizer.eos_token
        assert "<think>" not in tokenizer.decode(example.ids)


def test_documents_to_learn_from_and_to_answer_are_others(school):
    assert not {trace.document for trace in school.traces} & set(school.texts)
    assert len(school.texts) == school.gold.shape[0] == 4


def test_fewer_traces_than_were_asked_for_are_said_to_be_fewer(school):
    assert school.counted == "6 traces"
    there = len(school.task.documents["train"])
    more = replace(school, plan=replace(PLAN, n_traces=there + 1), left_out={"no CoT": there - 6})
    assert more.counted == (
        f"6 traces ({there + 1:,} asked for; the task has {there:,} training documents; {there - 6:,} left out: no CoT)"
    )


def test_the_teacher_knows_its_own_words_about_the_test_documents_best(school):
    assert len(school.held) == 4
    text = school.language_model.tokenizer.decode(school.held[0].ids)
    assert " ".join(school.texts[0].split())[:60] in text
    teacher = experiment.token_probability(school.language_model.model, school.held)
    log_p = school.language_model.model(torch.tensor([school.held[0].ids])).logits[0].log_softmax(-1)
    ids, n_prompt, _ = school.held[0]
    wanted = torch.stack([log_p[at - 1, ids[at]] for at in range(n_prompt, len(ids))]).mean().exp()
    assert teacher[0] == pytest.approx(wanted.item(), rel=0.02)
    student = experiment.token_probability(experiment._beginner(school, 0), school.held)
    assert (student < teacher).all()


def test_students_are_trained_in_their_teachers_precision(school):
    assert not school.mixed, "an organism's students learn the same on every processor"
    half = copy.deepcopy(school.language_model.model).bfloat16()
    assert replace(school, language_model=replace(school.language_model, model=half)).mixed


def test_a_student_is_kept_and_read_again(school, tmp_path, monkeypatch):
    first = experiment.run(school, [COT, FULL], [0], tmp_path)
    assert [one.arm for one in first] == ["cot", "mechanistic"]
    assert [one.steps for one in first] == [3, 3]
    assert first[0].tokens == first[1].tokens
    assert first[0].loss != first[1].loss
    monkeypatch.setattr(experiment, "teach", None)  # nothing is trained again
    again = experiment.run(school, [COT, FULL], [0], tmp_path)
    for one, other in zip(first, again, strict=True):
        assert one.cots == other.cots
        np.testing.assert_array_equal(one.values["ndcg@5"], other.values["ndcg@5"])
    for home in tmp_path.iterdir():
        assert {"model.safetensors", "outcome.json", "log.csv"} <= {path.name for path in home.iterdir()}
        assert not (home / checkpoint.CHECKPOINT).exists()


def test_runs_side_by_side_end_as_one_after_the_other(school, tmp_path, monkeypatch):
    alone = experiment.run(school, [COT, FULL], [3], tmp_path / "alone", workers=1)
    monkeypatch.setattr(experiment, "STARTING", 1)
    beside = experiment.run(school, [COT, FULL], [3], tmp_path / "beside", workers=2)
    for one, other in zip(alone, beside, strict=True):
        assert one.loss == other.loss
        assert one.cots == other.cots
    assert not list((tmp_path / "beside").glob(".school*")), "what the processes shared is gone"


def test_two_processes_that_want_the_same_student_teach_it_once(school, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    with (
        experiment._on_disk(school, tmp_path) as shared,
        ProcessPoolExecutor(2, spawn, experiment._begin, (shared, tmp_path)) as pool,
    ):
        for taught in [pool.submit(experiment._teach_there, COT, 5) for _ in range(2)]:
            taught.result()
    (outcome,) = experiment.run(school, [COT], [5], tmp_path)
    assert outcome.steps == 3


PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import torch
from ctd.distill import experiment

if __name__ == "__main__":
    torch.save(None, school := Path(sys.argv[1]))
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), experiment._begin, (school, school.parent))
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_students_on_an_accelerator_are_fewer_than_the_cores_of_its_machine(monkeypatch):
    monkeypatch.setattr(experiment.os, "sched_getaffinity", lambda _: set(range(64)))
    on_gpu, on_cpu = (SimpleNamespace(device=torch.device(place)) for place in ("cuda", "cpu"))
    assert experiment._side_by_side(on_gpu) == experiment.ON_GPU < experiment._side_by_side(on_cpu) == 64


def test_processes_end_when_the_one_that_began_them_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script, tmp_path / "school.pt"], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs([child], timeout=30)
    ended = gone or alive[0].status() == psutil.STATUS_ZOMBIE
    parent.stdout.close()
    if not ended:
        child.kill()
    assert ended


def test_where_one_student_fails_those_that_wait_do_not_begin(school, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "STARTING", 1)
    bad = Arm("bad", "mechanistic", Weights())
    broken = replace(school, plan=replace(PLAN, n_heads=40))  # more heads than there are
    with pytest.raises(ValueError, match="k must be between 1 and 36"):
        experiment.run(broken, [bad], range(6), tmp_path, workers=2)
    assert len(list(tmp_path.glob("*/outcome.json"))) == 0
    assert not list(tmp_path.glob(".school*"))


class TooLarge(experiment.School):
    """A school that ends every process which reads it, as the kernel does where memory is short."""

    def __setstate__(self, state):
        os._exit(9)


def test_where_processes_are_killed_fewer_go_on(school, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "STARTING", 1)
    large = TooLarge(**{field.name: getattr(school, field.name) for field in fields(school)})
    found = experiment.run(large, [COT], [0, 1], tmp_path, workers=2)
    assert [one.seed for one in found] == [0, 1]
    assert "most often for want of memory: going on with 1 at a time in place of 2" in "".join(capsys.readouterr())
    assert not list(tmp_path.glob(".school*"))


def test_what_decides_about_a_student_is_in_its_key(school):
    def key(of=school, arm=FULL, seed=0):
        return experiment.key(of, arm, seed)

    other = replace(school, plan=replace(PLAN, n_heads=2))
    assert key() == key(arm=replace(FULL, name="called otherwise"))
    changed = [
        key(seed=1), key(arm=COT), key(arm=replace(FULL, weights=Weights().without("1"))), key(of=other),
        key(arm=replace(FULL, time=2.0)), key(of=replace(school, passages=school.passages[1:])),
        key(arm=replace(FULL, words="fkl")), key(arm=replace(FULL, words="rkl")),
        key(arm=replace(FULL, fade=0.5)),
    ]  # fmt: skip
    assert len({key(), *changed}) == 10
    assert key(arm=COT) == key(of=other, arm=COT), "heads do not matter to the text alone"


def changed_inputs(school):
    """The same experiment with one input changed, by the name of the input in a student's key."""
    first, *others = school.passages
    document, *rest = school.own
    task = school.task
    gold = task.documents.map(lambda row: {"labels": row["labels"][:1]}, load_from_cache_file=False)
    encoder = replace(school.index, encoder=SimpleNamespace(key="another"))
    renamed = replace(task.space, texts=[*task.space.texts[:-1], "another label"])
    moved = replace(first, comparisons=tuple(one._replace(near=one.near + 1) for one in first.comparisons))
    return {
        "anchors": replace(school, passages=[replace(first, anchors=(*first.anchors, 1)), *others]),
        "comparisons": replace(school, passages=[moved, *others]),
        "gold": replace(school, task=replace(task, documents=gold)),
        "label_space": replace(school, task=replace(task, space=renamed)),
        "index": replace(school, index=encoder),
        "teacher_answers": replace(school, own=[replace(document, ranking=(0,)), *rest]),
        "traces": replace(school, traces=[replace(school.traces[0], uid="another"), *school.traces[1:]]),
        "document_tokens": replace(school, teacher=replace(school.teacher, document_tokens=7)),
        "tuned": replace(school, teacher=replace(school.teacher, tuned=False)),
        "model": replace(school, language_model=replace(school.language_model, key="another")),
    }


def test_a_students_key_sees_everything_that_the_student_and_its_answers_depend_on(school):
    full = {name: experiment.key(changed, FULL, 0) for name, changed in changed_inputs(school).items()}
    assert len({experiment.key(school, FULL, 0), *full.values()}) == len(full) + 1, full
    text = {name: experiment.key(changed, COT, 0) for name, changed in changed_inputs(school).items()}
    same = {name for name, found in text.items() if found == experiment.key(school, COT, 0)}
    assert same == {"anchors", "comparisons"}, "one that is taught the text reads neither"


def test_a_student_is_taught_anew_where_a_line_of_a_loss_changes(school, tmp_path, monkeypatch):
    taught, teach = [], experiment.teach
    monkeypatch.setattr(experiment, "teach", lambda *given: taught.append(given) or teach(*given))
    shutil.copytree(keys.ROOT / "ctd", tmp_path / "ctd")
    monkeypatch.setattr(keys, "ROOT", tmp_path)
    losses = tmp_path / "ctd" / "distill" / "losses.py"
    whole = losses.read_text()
    commented = whole.replace("    return (teacher * apart)", "    # a comment\n    return (teacher * apart)")
    doubled = whole.replace("    return (teacher * apart)", "    return (2 * teacher * apart)")
    assert len({whole, commented, doubled}) == 3
    try:
        for text, times in ((whole, 1), (commented, 1), (doubled, 2)):
            losses.write_text(text)
            forget_code()
            experiment.run(school, [COT], [0], tmp_path / "students", workers=1)
            assert len(taught) == times
    finally:
        monkeypatch.undo()
        forget_code()


def forget_code():
    for cached in (keys.source_digest, keys._imports, keys._code):
        cached.cache_clear()


def test_a_plan_may_change_what_is_trained_but_not_its_data(school):
    changed = school.with_plan(n_heads=2, n_steps=9)
    assert (changed.plan.n_heads, changed.plan.n_steps, changed.plan.n_traces) == (2, 9, PLAN.n_traces)
    assert changed.passages is school.passages
    for name, value in (("n_traces", 3), ("split", "validation"), ("n_test", 2), ("topic_depth", 1), ("max_tokens", 9)):
        with pytest.raises(ValueError, match=f"{name} would change the data"):
            school.with_plan(**{name: value})


def test_heads_are_the_teachers_highest_or_those_planted(school):
    found = school.teacher_heads
    assert [len(of) for of in found.values()] == [4, 4]
    planted = replace(school, plan=replace(PLAN, n_heads=0))
    with pytest.raises(ValueError, match="no heads were planted in organism"):
        _ = planted.teacher_heads


def outcome(arm, seed, exact, tokens=10.0):
    values = {
        "exact_match": np.array(exact, float),
        "ndcg@5": np.array(exact) / 2,
        "shortlist_recall": np.ones(len(exact)),
    }
    values["token_probability"] = np.full(len(exact), 0.5)
    values["tokens"] = np.full(len(exact), tokens)
    return Outcome(arm, seed, values, [], [], 5, 100, 2.0 + seed, 0.4, 0.1, 1.0 + seed)


OUTCOMES = [
    outcome("cot", 0, [0, 0, 1, 0]),
    outcome("cot", 1, [0, 1, 0, 0]),
    outcome("other", 0, [1, 0, 1, 1], 20.0),
    outcome("other", 1, [0, 1, 0, 0], 20.0),
]


class TestTables:
    def test_means_over_seeds_and_documents(self):
        table = experiment.table(OUTCOMES).set_index(["arm", "measure"])
        assert table.loc[("cot", "exact_match"), "value"] == 0.25
        assert table.loc[("other", "exact_match"), "value"] == 0.5
        assert table.loc[("other", "exact_match"), "sd"] == pytest.approx(np.std([0.75, 0.25], ddof=1))
        assert table.loc[("other", "tokens"), "value"] == 20

    def test_gains_are_paired_over_documents_and_counted_over_seeds(self):
        (row,) = experiment.gains(OUTCOMES, "cot").to_dict("records")
        assert (row["name"], row["value"], row["seeds"]) == ("other", 0.25, 1)
        over = scipy_stats.ttest_1samp([0.5, 0.0], 0).confidence_interval()
        assert (row["seed_low"], row["seed_high"]) == pytest.approx((over.low, over.high))
        (alone,) = experiment.gains([one for one in OUTCOMES if one.seed == 0], "cot").to_dict("records")
        assert np.isnan([alone["seed_low"], alone["seed_high"]]).all()
        with pytest.raises(ValueError, match="baseline must be one of cot, other, got 'none'"):
            experiment.gains(OUTCOMES, "none")

    def test_the_learning_curve_of_a_run_that_is_kept(self):
        rows = [("nDCG with 64 traces", "cot", 0.2), ("nDCG with 1024 traces", "cot, x", 0.3), ("nDCG", "cot", 0.1)]
        rows += [("gain in nDCG with 64 traces", "a - cot", 0.4)]
        found = pd.DataFrame(rows, columns=["metric", "of", "value"]).assign(low=0.0, high=1.0)
        curve = experiment.learning_curve(found)[["traces", "arm", "value"]].to_numpy().tolist()
        assert curve == [[64, "cot", 0.2], [1024, "cot, x", 0.3], [64, "a - cot", 0.4]]
        assert experiment.learning_curve(found[2:3]).empty

    def test_costs(self):
        costs = experiment.costs(OUTCOMES).set_index("arm")
        assert costs.loc["cot", "training s"] == 2.5
        assert experiment.final_loss(OUTCOMES) == {"cot": 1.5, "other": 1.5}


def test_threads_are_as_they_were(school, tmp_path):
    before = torch.get_num_threads()
    experiment.run(school, [COT], [9], tmp_path, workers=1)
    assert torch.get_num_threads() == before


def test_bad_input(school, tmp_path):
    with pytest.raises(ValueError, match="arms need names of their own, got cot, cot"):
        experiment.run(school, [COT, COT], [0], tmp_path)
    for name, value in (("layers", 0), ("n_steps", 0), ("n_heads", -1), ("matching", "luck"), ("learning_rate", 0)):
        with pytest.raises(ValueError, match=name):
            replace(PLAN, **{name: value})
    with pytest.raises(ValueError, match="words must be one of cot, fkl, rkl, got 'jsd'"):
        replace(FULL, words="jsd")
    served = replace(school.teacher, language_model=None)
    with pytest.raises(ValueError, match="load the teacher here, not behind a server"):
        experiment.school(served, school.task, school.index, PLAN)
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        experiment.school(school.teacher, school.task, school.index, replace(PLAN, split="dev"))
