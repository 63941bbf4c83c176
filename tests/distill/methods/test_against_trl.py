"""Losses of methods against those of TRL, where it has them and is installed.

The losses of TRL's trainers are methods of theirs; they are called here with a stand-in for the trainer.
"""

from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from ctd.distill.examples import IGNORED
from ctd.distill.methods import Seen, pairs, policy, told
from ctd.distill.methods.divergences import skew
from ctd.distill.methods.scoring import batch_log_p
from ctd.distill.token_loss import token_loss
from tests.distill.methods.conftest import BATCH

pytest.importorskip("trl", reason="optional cross-check: pip install .[crosscheck]")
pytestmark = pytest.mark.filterwarnings("ignore")  # much of it is called experimental

BETTER, WORSE = (
    torch.tensor(values, dtype=torch.float64) for values in ([-0.5, -0.2, -3.0, -1.1], [-1.0, -0.9, -0.1, -2.0])
)
TRAINER = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"))


def of_trainer(module, name):
    return getattr(pytest.importorskip(module), name)


def stand_in(**settings):
    """A trainer in one process, which keeps its statistics to itself."""
    trainer = MagicMock(**settings, _metrics=defaultdict(lambda: defaultdict(list)))
    trainer.model.training, trainer.accelerator.device = False, "cpu"
    trainer.accelerator.gather_for_metrics.side_effect = trainer.accelerator.gather.side_effect = lambda value: value
    trainer.accelerator.reduce.side_effect = lambda value, reduction: value
    return trainer


def labels():
    """The targets, each at the place of its own token, as TRL has them."""
    shifted = BATCH.targets.roll(1, dims=1)
    shifted[:, 0] = IGNORED
    return shifted


class TestSummed:
    @pytest.fixture
    def log_p(self, student):
        trainer = of_trainer("trl.experimental.orpo", "ORPOTrainer")
        logits = student(input_ids=BATCH.ids).logits
        return lambda average: trainer.get_batch_logps(logits, labels(), average_log_prob=average)

    def test_of_texts(self, student, log_p):
        torch.testing.assert_close(pairs.summed_log_p(student, BATCH), log_p(False))
        torch.testing.assert_close(pairs.mean_log_p(student, BATCH), log_p(True))

    def test_the_token_loss_is_that_of_supervised_fine_tuning(self, student, log_p):
        torch.testing.assert_close(token_loss(student, BATCH), -log_p(False).sum())

    def test_of_tokens(self, student):
        picked = of_trainer("trl.trainer.utils", "selective_log_softmax")
        learned = BATCH.targets != IGNORED
        wanted = picked(student(input_ids=BATCH.ids).logits[learned], BATCH.targets[learned])
        torch.testing.assert_close(batch_log_p(student, BATCH), wanted)


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_orpo(weight):
    trainer = of_trainer("trl.experimental.orpo", "ORPOTrainer")
    raised, *_ = trainer.odds_ratio_loss(SimpleNamespace(beta=weight, **vars(TRAINER)), BETTER, WORSE)
    torch.testing.assert_close(pairs.odds_ratio(BETTER, WORSE, weight), -BETTER - raised, check_dtype=False)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_redi_is_the_limit_of_simpo(gamma):
    """Proposition B.3 of its source: for small beta the slopes are proportional where alpha is 1."""
    trainer, beta = of_trainer("trl.experimental.cpo", "CPOTrainer"), 1e-4
    settings = {"alpha": 0.0, "beta": beta, "loss_type": "simpo", "simpo_gamma": gamma, "label_smoothing": 0.0}
    better, worse = BETTER.clone().requires_grad_(), WORSE.clone().requires_grad_()
    expected, *_ = trainer.cpo_loss(SimpleNamespace(**settings, **vars(TRAINER)), better, worse)
    slopes = torch.autograd.grad(expected.sum(), (better, worse))
    ours = torch.autograd.grad(pairs.asymmetric(better, worse, 1.0).sum(), (better, worse))
    scale = beta * torch.sigmoid(torch.tensor(gamma))
    for our_slope, slope in zip(ours, slopes, strict=True):
        torch.testing.assert_close(slope / scale, our_slope, rtol=1e-3, atol=0, check_dtype=False)


@pytest.mark.parametrize("drift", [0.4, -0.4])
def test_kto(drift):
    """The point from which a gain counts is the mean drift of strange texts, and 0 where that is negative."""
    trainer, n = of_trainer("trl", "KTOTrainer"), len(BETTER)
    each = torch.cat([BETTER, WORSE])
    model = MagicMock(
        return_value=SimpleNamespace(log_probs=each[:, None], entropy=each[:, None], mean_logits=each[:, None])
    )
    before = torch.linspace(-1, 0.5, 2 * n, dtype=torch.float64)
    tokens = torch.ones(2 * n, 2, dtype=torch.long)
    batch = {
        "input_ids": tokens, "attention_mask": tokens, "completion_mask": torch.tensor([[0, 1]] * 2 * n),
        "label": torch.tensor([True] * n + [False] * n), "ref_logps": before,
        "ref_KL_logps": torch.zeros(2 * n, dtype=torch.float64),
    }  # fmt: skip
    stub = stand_in(
        beta=0.3, loss_type="kto", precompute_ref_logps=True, calculate_KL=True, aux_loss_enabled=False,
        desirable_weight=1.0, undesirable_weight=1.0,
    )  # fmt: skip
    stub._compute_kl_logps.return_value = torch.full((2 * n,), drift, dtype=torch.float64)
    expected = trainer._compute_loss(stub, model, batch, False)
    point = torch.tensor(max(drift, 0.0), dtype=torch.float64)
    ours = pairs.prospect(BETTER - before[:n], WORSE - before[n:], point, beta=0.3)
    torch.testing.assert_close(ours.sum() / (2 * n), expected)


@pytest.mark.parametrize("clip", [0.2, 0.05])
def test_rlvr_is_grpo(clip):
    """Its loss of tokens; the mean over a batch is TRL's, for here the training loop divides by targets."""
    trainer = of_trainer("trl", "GRPOTrainer")
    generator = torch.Generator().manual_seed(3)
    now, before = -torch.rand(2, 3, 5, dtype=torch.float64, generator=generator)
    advantage = torch.tensor([1.3, -0.4, 0.0], dtype=torch.float64)
    stub = stand_in(
        beta=0.0, loss_type="bnpo", top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        importance_sampling_level="token", epsilon_low=clip, epsilon_high=clip, aux_loss_enabled=False,
        _entropy_bonus_enabled=False, args=SimpleNamespace(delta=None),
    )  # fmt: skip
    stub._get_per_token_logps_and_entropies.return_value = (now, now, None)
    ones = torch.ones(3, 5, dtype=torch.long)
    texts = {"prompt_ids": ones, "prompt_mask": ones, "completion_ids": ones, "completion_mask": ones}
    expected = trainer._compute_loss(stub, None, texts | {"advantages": advantage, "old_per_token_logps": before})
    each = advantage[:, None].expand(3, 5)
    ours = policy.against_mixture(now, before, torch.zeros_like(now), each, clip=clip)
    torch.testing.assert_close(ours.mean(), expected)
    assert (ours != -(now - before).exp() * each).any(), "something is clipped"


def test_opsd_is_self_distillation():
    divergence = of_trainer("trl.experimental.sdft.loss_utils", "compute_full_logit_self_distillation_loss")
    student, told_gold = torch.randn(2, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen = Seen(student.log_softmax(-1), told_gold.log_softmax(-1), torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(told.reverse_kl(seen), divergence(student, told_gold, distillation_alpha=1.0))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_skew_is_a_part_of_the_jensen_shannon_divergence(alpha):
    """alpha KL(teacher || M) and (1 - alpha) KL(student || M), whose M is the same with the shares exchanged."""
    divergence = of_trainer("trl.experimental.sdft.loss_utils", "compute_divergence")
    student, teacher = torch.randn(
        2, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    ).log_softmax(-1)
    target = torch.zeros(6, dtype=torch.long)
    ours = alpha * skew(Seen(student, teacher, target), alpha) + (1 - alpha) * skew(
        Seen(teacher, student, target), 1 - alpha
    )
    torch.testing.assert_close(ours, divergence(student, teacher, alpha))
