"""Arms side by side: names, PSP, gains and fronts, against hand counts and sums over all pairs."""

import numpy as np
import pytest

from ctd.distill import comparison, retrieval_arm, training_costs
from ctd.distill.losses import Weights
from ctd.distill.measures import Outcome
from ctd.distill.methods import METHODS, Arm, trace_examples
from ctd.distill.teach import train_student
from ctd.retrieval import metrics


def outcome(arm, seed, exact, probability=0.5):
    exact = np.array(exact, float)
    values = dict.fromkeys(("exact_match", "ndcg@5", "psp@5", "shortlist_recall", "las_balanced"), exact)
    values |= {"token_probability": np.full(len(exact), probability), "tokens": np.full(len(exact), 7.0)}
    values |= {"trajectory_distance": np.full(len(exact) - 1, probability)}
    return Outcome(arm, seed, values, [[1]] * len(exact), [], 5, 100, 2.0, 0.4, 0.1, 1.0, 5)


OUTCOMES = [
    outcome(arm, seed, exact)
    for arm, by_seed in {
        "cot": ([0, 0, 1, 0], [0, 1, 0, 0]),
        "filtered": ([0, 0, 1, 0], [0, 1, 0, 0]),
        "lelp": ([1, 0, 1, 1], [0, 1, 1, 0]),
        "fkl": ([0, 0, 0, 0], [0, 1, 1, 0]),
    }.items()
    for seed, exact in enumerate(by_seed)
]


class TestNames:
    def test_a_name_is_a_method_or_one_with_the_terms(self):
        arms = comparison.named(["cot", "fkl + mechanistic", "retrieval", "cot", "mechanistic"], Weights(2.0))
        assert [(arm.name, arm.method, arm.base_loss) for arm in arms] == [
            ("cot", "cot", "cot"),
            ("fkl + mechanistic", "mechanistic", "fkl"),
            ("mechanistic", "mechanistic", "cot"),
        ]
        assert arms[0] == Arm("cot", "cot")
        assert arms[2].weights == Weights(2.0)

    @pytest.mark.parametrize(
        ("name", "message"), [("fkk", "an arm must be one of retrieval, "), ("answer + mechanistic", "got 'answer'")]
    )
    def test_an_unknown_one_is_refused(self, name, message):
        with pytest.raises(ValueError, match=message):
            comparison.check(name)

    def test_every_method_is_one(self):
        assert [comparison.check(name) for name in METHODS] == list(METHODS)

    def test_who_sees_gold(self):
        named = ["cot", "fkl", "filtered", "lelp", "retrieval", "mechanistic"]
        assert [name for name in named if comparison.sees_gold(name)] == ["filtered", "lelp", "retrieval"]


class TestTables:
    def test_levels_leave_out_what_an_arm_has_not(self):
        without = [outcome("retrieval", seed, [1, 0, 0, 0], np.nan) for seed in (0, 1)]
        table = comparison.levels([*OUTCOMES, *without]).set_index(["arm", "measure"])
        assert table.loc[("lelp", "exact_match"), "value"] == pytest.approx(5 / 8)
        assert ("retrieval", "token_probability") not in table.index
        assert ("cot", "token_probability") in table.index
        row = table.loc[("lelp", "exact_match")]
        assert row["both_low"] < row["value"] < row["both_high"]

    def test_those_that_see_gold_are_compared_with_filtered_too(self):
        table = comparison.gains(OUTCOMES)
        exact = table[table["measure"] == "exact_match"]
        assert set(zip(exact["name"], exact["against"], strict=True)) == {
            ("filtered", "cot"), ("lelp", "cot"), ("fkl", "cot"), ("lelp", "filtered"),
        }  # fmt: skip
        assert exact.set_index(["name", "against"]).loc[("lelp", "cot"), "value"] == pytest.approx(3 / 8)

    def test_holm_covers_all_rows(self):
        table = comparison.gains(OUTCOMES)
        smallest = table["p"].idxmin()
        assert table.loc[smallest, "p_holm"] == pytest.approx(min(1, len(table) * table.loc[smallest, "p"]))

    def test_a_comparison_needs_two_arms(self):
        with pytest.raises(ValueError, match="a comparison needs cot and another arm, got cot"):
            comparison.gains(OUTCOMES[:2])


@pytest.mark.parametrize("seed", range(5))
def test_an_arm_is_on_the_front_where_no_other_is_as_good_for_less(seed):
    rng = np.random.default_rng(seed)
    cost, quality = rng.integers(0, 5, 12).astype(float), rng.integers(0, 5, 12).astype(float)
    cost[3] = np.nan
    beaten = [
        any(
            (c <= own_cost and q > own_quality) or (c < own_cost and q >= own_quality)
            for c, q in zip(cost, quality, strict=True)
        )
        for own_cost, own_quality in zip(cost, quality, strict=True)
    ]
    expected = ~np.array(beaten) & ~np.isnan(cost)
    assert expected.any()
    assert comparison.on_front(cost, quality).tolist() == expected.tolist()


class TestOnTheOrganism:
    def test_the_mean_of_psp_is_that_of_the_set(self, experiment):
        answers = [[int(label) for label in row.indices[:1]] for row in experiment.gold]
        answers[0] = []
        (with_it,) = comparison.with_psp([Outcome("x", 0, {}, answers, [], 0, 0, 0, 0, 0, 0, 0)], experiment)
        ranking = np.array([[*answer, -1, -1, -1, -1, -1][:5] for answer in answers])
        inverse = metrics.inverse_propensity(experiment.task.gold("train"))
        assert with_it.values["psp@5"].mean() == pytest.approx(metrics.psp_at_k(ranking, experiment.gold, 5, inverse))
        assert with_it.values["psp@5"][0] == 0

    def test_retrieval_learns_from_the_same_documents(self, experiment):
        first, second = retrieval_arm.outcomes(experiment, [3, 4], 0)
        assert (first.arm, first.seed, second.seed) == ("retrieval", 3, 4)
        later = {"psp@5", "las_balanced", "trajectory_distance"}
        assert set(first.values) == set(comparison.MEASURES) - later
        assert first.values["ndcg@5"].tolist() == pytest.approx(
            metrics.ndcg_at_k(np.array(first.answers), experiment.gold, 5, average=False)
        )
        assert first.values["tokens"].sum() == 0

    def test_learned_targets_are_those_of_the_steps_that_were_taken(self, experiment, tmp_path):
        arm = Arm("cot", "cot")
        _, log = train_student(experiment, arm, 1, tmp_path)
        taught = Outcome("cot", 1, {}, [], [], len(log), 0, 0, 0, 0, 0, len(log))
        texts, plan = trace_examples(experiment), experiment.plan
        steps = training_costs.steps(texts, plan.batch_tokens, plan.n_steps, 1)
        padded = [len(rows) * max(len(texts[row].ids) for row in rows) for rows in steps]
        assert padded == [row["tokens"] for row in log]
        expected = sum(len(texts[row].ids) - texts[row].n_prompt for rows in steps for row in rows)
        assert training_costs.learned_targets(experiment, arm, taught) == expected

    def test_what_the_teacher_reads_is_counted_for_each_need(self, experiment):
        texts = trace_examples(experiment)
        prompts, whole = sum(text.n_prompt for text in texts), sum(len(text.ids) for text in texts)

        def tokens(name):
            return training_costs.teacher_tokens(experiment, Arm(name, name))

        assert tokens("cot") == (prompts, whole - prompts)
        assert tokens("fkl") == (prompts + whole, whole - prompts)
        assert tokens("mechanistic") == (prompts + 2 * whole, whole - prompts)  # fewer traces than heads are ranked on

    def test_what_depends_on_the_student_is_left_empty(self, experiment):
        student_outcome = Outcome("stt", 0, {}, [], [], 3, 100, 2.0, 0.4, 0.1, 1.0, 3)
        cost = training_costs.cost(experiment, Arm("stt", "stt"), student_outcome, 1000)
        assert np.isnan(cost.learned_targets)
        assert np.isnan(cost.student_tokens_sampled)
        operations = 6 * 1000 * 100 + 2 * experiment.language_model.model.num_parameters() * (
            cost.teacher_tokens_read + cost.teacher_tokens_written
        )
        assert cost.training_compute == pytest.approx(operations / 1e9)
