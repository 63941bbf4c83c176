"""A method of your own: one function, and one line in `METHODS`. It is the code that `book/add_an_arm.md` shows."""

import re
from dataclasses import replace

import pytest

from ctd.cache import ROOT
from ctd.distill import measures, methods, pool, teach
from ctd.distill.methods import METHODS, Arm, Method
from ctd.distill.methods.token_by_token import TokenByToken
from ctd.workers.pool import POOL


@pytest.fixture
def registered(my_arm, monkeypatch):
    monkeypatch.setitem(METHODS, "skewed", my_arm.MINE)


def test_the_page_shows_the_code_that_is_tested(my_arm):
    page = (ROOT / "book" / "add_an_arm.md").read_text()
    assert set(re.findall(r"literalinclude\} (\S+)", page)) == {"_static/my_arm.py"}
    assert all(hasattr(my_arm, name) for name in re.findall(r":pyobject: (\S+)", page))
    source = (ROOT / "book" / "_static" / "my_arm.py").read_text()
    assert all(start in source for start in re.findall(r":(?:start|end)-at: (.+)", page))


def test_a_new_method_is_taught_measured_and_compared_like_the_others(registered, my_arm, experiment, tmp_path):
    table, gains = my_arm.compare(experiment, [0], tmp_path, n_workers=1)
    rows = table.set_index(["arm", "measure"])
    assert set(rows.index) == {(arm, measure) for arm in ("cot", "mine", "mine, 0.3") for measure in measures.MEASURES}
    values = table[table["measure"] == "token_probability"]["value"]
    assert values.nunique() == 3
    assert list(gains["name"]) == ["mine", "mine, 0.3"]


def test_the_mechanistic_terms_can_be_added_to_it(registered, experiment):
    assert "skewed" in methods.base_losses()
    loss = Arm("both", "mechanistic", base_loss="skewed").loss(experiment, student(experiment))
    assert isinstance(loss.base_loss, TokenByToken)


def student(experiment):
    return experiment.initial_student(0)


def test_its_code_is_in_the_key_of_its_students(registered, experiment, monkeypatch):
    arm = Arm("skewed", "skewed")
    before = teach.key(experiment, arm, 0)

    def skewed(seen, share=0.1):
        return -seen.target_log_p

    monkeypatch.setitem(METHODS, "skewed", Method(tokens=skewed, needs=frozenset({"distribution"})))
    assert teach.key(experiment, arm, 0) != before


def test_so_are_its_way_of_asking_and_the_code_of_a_base_loss(registered, my_arm, experiment, monkeypatch):
    alone, added = Arm("skewed", "skewed"), Arm("both", "mechanistic", base_loss="skewed")
    before = [teach.key(experiment, arm, 0) for arm in (alone, added)]
    monkeypatch.setitem(METHODS, "skewed", Method(tokens=my_arm.skewed, mode="answer"))
    assert teach.key(experiment, alone, 0) != before[0]
    monkeypatch.setitem(METHODS, "skewed", Method(tokens=lambda *parts: my_arm.skewed(*parts)))
    assert teach.key(experiment, added, 0) != before[1]


def test_its_students_are_taught_in_this_process_which_alone_knows_it(registered, experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "STEP_SECONDS", 20)
    monkeypatch.setattr(POOL, "enter", lambda _: pytest.fail("another process does not know the method"))
    assert len(pool.run(experiment, [Arm("skewed", "skewed")], [0, 1], tmp_path, n_workers=2)) == 2


def test_its_settings_are_its_arguments_with_a_default(registered, experiment):
    assert METHODS["skewed"].settings == {"share": 0.1}
    tried = replace(Arm("skewed", "skewed"), settings=(("share", 0.3),))
    assert tried.loss(experiment, student(experiment)).tokens.keywords == {"share": 0.3}
    assert teach.key(experiment, tried, 0) != teach.key(experiment, Arm("skewed", "skewed"), 0)
    with pytest.raises(ValueError, match=r"settings of skewed are share \(0\.1\), got 'shares'"):
        replace(tried, settings=(("shares", 0.3),))
