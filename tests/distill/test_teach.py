"""A student's key sees all that it depends on; students are kept and read again."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from ctd import keys
from ctd.distill import checkpoint, pool, teach
from ctd.distill.losses import Weights
from ctd.distill.methods import Arm
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from tests.distill.conftest import COT, FULL, PLAN


def test_a_student_is_kept_and_read_again(experiment, tmp_path, monkeypatch):
    first = pool.run(experiment, [COT, FULL], [0], tmp_path)
    assert [outcome.arm for outcome in first] == ["cot", "mechanistic"]
    assert [outcome.steps for outcome in first] == [3, 3]
    assert first[0].tokens == first[1].tokens
    assert first[0].loss != first[1].loss
    monkeypatch.setattr(teach, "teach", None)  # nothing is trained again
    again = pool.run(experiment, [COT, FULL], [0], tmp_path)
    for outcome, same in zip(first, again, strict=True):
        assert outcome.cots == same.cots
        np.testing.assert_array_equal(outcome.values["ndcg@5"], same.values["ndcg@5"])
    for home in tmp_path.iterdir():
        assert {"model.safetensors", "outcome.json", "log.csv"} <= {path.name for path in home.iterdir()}
        assert not (home / checkpoint.CHECKPOINT).exists()


def test_what_decides_about_a_student_is_in_its_key(experiment):
    def key(study=experiment, arm=FULL, seed=0):
        return teach.key(study, arm, seed)

    other = replace(experiment, plan=replace(PLAN, n_heads=2))
    assert key() == key(arm=replace(FULL, name="called otherwise"))
    changed = [
        key(seed=1), key(arm=COT), key(arm=replace(FULL, weights=Weights().without("1"))), key(study=other),
        key(arm=replace(FULL, step_multiplier=2.0)),
        key(study=replace(experiment, annotated_traces=experiment.annotated_traces[1:])),
        key(arm=replace(FULL, base_loss="fkl")), key(arm=replace(FULL, base_loss="rkl")),
        key(arm=replace(FULL, anneal_fraction=0.5)),
    ]  # fmt: skip
    assert len({key(), *changed}) == 10
    assert key(arm=COT) == key(study=other, arm=COT), "heads do not matter to the text alone"


def changed_inputs(experiment):
    """The same experiment with one input changed, by the name of the input in a student's key."""
    first, *others = experiment.annotated_traces
    model = replace(experiment.language_model, key="another")
    document, *rest = experiment.teacher_answers
    task = experiment.task
    gold = task.documents.map(lambda row: {"labels": row["labels"][:1]}, load_from_cache_file=False)
    encoder = replace(experiment.index, encoder=SimpleNamespace(key="another"))
    renamed = replace(task.space, texts=[*task.space.texts[:-1], "another label"])
    moved = replace(first, comparisons=tuple(pair._replace(near=pair.near + 1) for pair in first.comparisons))
    return {
        "anchors": replace(experiment, annotated_traces=[replace(first, anchors=(*first.anchors, 1)), *others]),
        "comparisons": replace(experiment, annotated_traces=[moved, *others]),
        "gold": replace(experiment, task=replace(task, documents=gold)),
        "label_space": replace(experiment, task=replace(task, space=renamed)),
        "index": replace(experiment, index=encoder),
        "teacher_answers": replace(experiment, teacher_answers=[replace(document, ranking=(0,)), *rest]),
        "traces": replace(experiment, traces=[replace(experiment.traces[0], uid="another"), *experiment.traces[1:]]),
        "document_tokens": replace(experiment, teacher=replace(experiment.teacher, document_tokens=7)),
        "tuned": replace(experiment, teacher=replace(experiment.teacher, tuned=False)),
        "model": replace(experiment, teacher=replace(experiment.teacher, language_model=model)),
    }


def test_a_students_key_sees_everything_that_the_student_and_its_answers_depend_on(experiment):
    full = {name: teach.key(changed, FULL, 0) for name, changed in changed_inputs(experiment).items()}
    assert len({teach.key(experiment, FULL, 0), *full.values()}) == len(full) + 1, full
    text = {name: teach.key(changed, COT, 0) for name, changed in changed_inputs(experiment).items()}
    same = {name for name, key in text.items() if key == teach.key(experiment, COT, 0)}
    assert same == {"anchors", "comparisons"}, "one that is taught the text reads neither"


def test_a_student_is_taught_anew_where_a_line_of_a_loss_changes(experiment, tmp_path, monkeypatch):
    taught, original = [], teach.teach
    monkeypatch.setattr(teach, "teach", lambda *arguments: taught.append(arguments) or original(*arguments))
    shutil.copytree(keys.ROOT / "ctd", tmp_path / "ctd")
    monkeypatch.setattr(keys, "ROOT", tmp_path)
    losses = tmp_path / "ctd" / "distill" / "losses.py"
    whole = losses.read_text()
    commented = whole.replace("    return (teacher * log_ratio)", "    # a comment\n    return (teacher * log_ratio)")
    doubled = whole.replace("    return (teacher * log_ratio)", "    return (2 * teacher * log_ratio)")
    assert len({whole, commented, doubled}) == 3
    try:
        for text, times in ((whole, 1), (commented, 1), (doubled, 2)):
            losses.write_text(text)
            forget_code()
            pool.run(experiment, [COT], [0], tmp_path / "students", n_workers=1)
            assert len(taught) == times
    finally:
        monkeypatch.undo()
        forget_code()


def test_a_students_key_counts_the_code_of_its_own_method_alone(experiment, tmp_path, monkeypatch):
    arms = [COT, Arm("fkl", "fkl"), FULL, replace(FULL, base_loss="fkl")]
    before = [teach.key(experiment, arm, 0) for arm in arms]
    shutil.copytree(keys.ROOT / "ctd", tmp_path / "ctd")
    monkeypatch.setattr(keys, "ROOT", tmp_path)
    methods = tmp_path / "ctd" / "distill" / "methods"
    try:
        for name, changed in (("registry", []), ("divergences", [1, 3]), ("mechanistic", [2, 3])):
            whole = (methods / f"{name}.py").read_text()
            (methods / f"{name}.py").write_text(f"{whole}\nMORE = 1\n")
            forget_code()
            after = [teach.key(experiment, arm, 0) for arm in arms]
            assert [place for place, key in enumerate(after) if key != before[place]] == changed, name
            (methods / f"{name}.py").write_text(whole)
    finally:
        monkeypatch.undo()
        forget_code()


def forget_code():
    for cached in (keys.source_digest, keys._imports, keys._code):
        cached.cache_clear()


def test_a_key_sees_which_heads_were_planted_in_the_teacher(experiment, monkeypatch):
    planted = experiment.with_plan(n_heads=0)
    keys_of_both = []
    for heads in ({Phase.SHORTLIST: [Head(0, 0)]}, {Phase.SHORTLIST: [Head(0, 1)]}):
        with monkeypatch.context() as patched:
            patched.setattr("ctd.mechanism.planted_heads.planted_heads", lambda name, heads=heads: heads)
            keys_of_both.append(teach.key(replace(planted), FULL, 0))
    assert keys_of_both[0] != keys_of_both[1]


def test_a_key_sees_the_versions_of_the_libraries_that_compute(experiment, monkeypatch):
    before = teach.key(experiment, COT, 0)
    monkeypatch.setattr("ctd.distill.trace_signals.version", lambda library: "0.0")
    assert teach.key(replace(experiment), COT, 0) != before
