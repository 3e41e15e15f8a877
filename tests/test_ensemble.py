"""The weights of the branches against numbers worked out by hand, BranchEnsemble, and the joint loss."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spectral_ops import ensemble
from spectral_ops.nn import BranchEnsemble

INF, NAN = math.inf, math.nan
RULES = pytest.mark.parametrize("rule", [ensemble.weighted_sum, ensemble.geometric, ensemble.select_best])
SPACES = pytest.mark.parametrize("space", ["probabilities", "logits"])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def expect(error: type[Exception], message: str) -> pytest.RaisesExc:
    return pytest.raises(error, match="^" + re.escape(message))


# ---- the rules -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "weights, expected",
    [
        (ensemble.average(4, dtype=torch.float64), [1 / 4] * 4),
        (ensemble.weighted_sum(tensor(1, 2, 4)), [4 / 7, 2 / 7, 1 / 7]),
        (ensemble.weighted_sum(tensor(0.5, INF, 0.25)), [1 / 3, 0, 2 / 3]),
        (ensemble.weighted_sum(tensor(0, 3, 0)), [1 / 2, 0, 1 / 2]),
        (ensemble.geometric(tensor(3, 1, 2), p=0.5), [1 / 7, 4 / 7, 2 / 7]),
        (ensemble.geometric(tensor(0.1, 0.2)), [1 / 1.7, 0.7 / 1.7]),  # p = 0.3
        (ensemble.geometric(tensor(2, 1, 1), p=0.5), [1 / 7, 4 / 7, 2 / 7]),  # of equal losses the lower branch first
        (ensemble.geometric(tensor(3, 1, 2), p=1), [0, 1, 0]),
        (ensemble.select_best(tensor(3, 1, 2)), [0, 1, 0]),
        (ensemble.select_best(tensor(INF, 1, 1)), [0, 1, 0]),
    ],
)
def test_by_hand(weights: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(weights, tensor(*expected), rtol=1e-15, atol=0)


@RULES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("branches", [1, 2, 28, 300])
def test_sum_order_and_dtype(rule: Callable[[Tensor], Tensor], dtype: torch.dtype, branches: int) -> None:
    losses = torch.rand(branches).to(dtype).requires_grad_()
    weights = rule(losses)
    assert weights.shape == (branches,) and weights.dtype == dtype and not weights.requires_grad
    assert bool((weights >= 0).all())
    assert weights.double().sum().item() == pytest.approx(1, abs=4 * torch.finfo(dtype).eps)
    assert bool((weights[losses.argsort(stable=True)].diff() <= 0).all())  # the smaller the loss, the larger the weight


def test_geometric_is_geometric() -> None:
    """Each next better branch has 1 / (1 - p) times the weight; long tails do not lose the sum."""
    for p in (0.05, 0.3, 0.9):
        weights = ensemble.geometric(torch.randperm(28).double(), p).sort(descending=True).values
        torch.testing.assert_close(weights[1:] / weights[:-1], torch.full((27,), 1 - p).double())
        assert weights.sum().item() == pytest.approx(1, abs=1e-15)
        assert weights[0].item() == pytest.approx(p / (1 - (1 - p) ** 28))


def test_tiny_losses_do_not_overflow() -> None:
    losses = torch.tensor([1e-44, 2e-44, 1.0])  # 1 / 1e-44 is past float32
    weights = ensemble.weighted_sum(losses)
    assert bool(weights.isfinite().all()) and weights.sum().item() == pytest.approx(1)


def test_learned_improves_the_held_out_loss() -> None:
    """One good branch, one that is confidently wrong, noise: the weights go to the good one, below every other rule."""
    target = torch.randint(4, (200,))
    hot = torch.nn.functional.one_hot(target, 4).double()
    logits = torch.stack([2 * hot + 0.5 * torch.randn(200, 4), -2 * hot, torch.randn(200, 4).double()])
    losses = ensemble.branch_cross_entropy(logits, target)

    def joint(weights: Tensor) -> float:
        mixture = torch.ops.spectral.branch_ensemble(logits, weights, "probabilities")
        return ensemble.ensemble_cross_entropy(mixture, target).item()

    weights = ensemble.learned(logits, target)
    assert weights.argmax() == 0 and weights.sum().item() == pytest.approx(1)
    others = [ensemble.average(3).double(), *(f(losses) for f in (ensemble.weighted_sum, ensemble.geometric))]
    assert all(joint(weights) < joint(other) for other in others)
    assert joint(weights) <= joint(ensemble.select_best(losses)) + 1e-6
    nudged = torch.softmax(weights.clamp_min(1e-9).log() + 0.3 * torch.randn(3).double(), 0)
    assert joint(weights) <= joint(nudged) + 1e-6


@SPACES
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_learned_where_gradients_are_off(space: str, mode: Callable) -> None:
    with mode():
        weights = ensemble.learned(torch.randn(3, 20, 4), torch.randint(4, (20,)), space, steps=5)
    assert weights.dtype == torch.float32 and not weights.requires_grad
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)


# ---- the losses ----------------------------------------------------------------------------------------------------
def test_branch_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[0, math.log(3)], [0, 0]], [[0, 0], [0, 0]]], dtype=torch.float64)
    losses = ensemble.branch_cross_entropy(logits, torch.tensor([1, 0]))
    expected = [(math.log(4 / 3) + math.log(2)) / 2, math.log(2)]
    torch.testing.assert_close(losses, tensor(*expected))


def test_joint_loss_by_hand() -> None:
    output = torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.float64)
    target = torch.tensor([1, 0])
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert ensemble.ensemble_cross_entropy(output, target).item() == pytest.approx(expected, rel=1e-14)
    assert ensemble.ensemble_cross_entropy(output.log(), target, "logits").item() == pytest.approx(expected, rel=1e-14)


def test_joint_loss_of_an_impossible_class_is_finite() -> None:
    output = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = ensemble.ensemble_cross_entropy(output, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))
    assert output.grad is not None and bool(output.grad.isfinite().all())


@SPACES
def test_joint_loss_gradients(space: str) -> None:
    """Of loss (19) to the branches' logits and to the scores of the weights."""
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 4, 2, 2])

    def joint(logits: Tensor, scores: Tensor) -> Tensor:
        output = torch.ops.spectral.branch_ensemble(logits, torch.softmax(scores, 0), space)
        return ensemble.ensemble_cross_entropy(output, target, space)

    assert torch.autograd.gradcheck(joint, (logits, scores))
    assert torch.autograd.gradgradcheck(joint, (logits, scores))


# ---- BranchEnsemble ------------------------------------------------------------------------------------------------
def test_branch_ensemble_by_hand() -> None:
    logits = torch.tensor([[[0, math.log(3)]], [[0, 0]]], dtype=torch.float64)
    losses = tensor(3, 1)  # weighted_sum: 1/4, 3/4
    module = BranchEnsemble(2, "weighted_sum", dtype=torch.float64).fit(losses)
    torch.testing.assert_close(module(logits), torch.tensor([[7 / 16, 9 / 16]], dtype=torch.float64))
    module = BranchEnsemble(2, "weighted_sum", space="logits", dtype=torch.float64).fit(losses)
    torch.testing.assert_close(module(logits), torch.tensor([[0, math.log(3) / 4]], dtype=torch.float64))


@pytest.mark.parametrize("weighting", ["average", "weighted_sum", "geometric", "select_best", "learned"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_branch_ensemble_starts_as_the_mean(weighting: str, dtype: torch.dtype) -> None:
    module = BranchEnsemble(4, weighting)
    logits = torch.randn(4, 5, 3).to(dtype)
    y = module(logits)
    assert y.shape == (5, 3) and y.dtype == dtype
    # eps of bfloat16 is 2^-7: the weights and the result are rounded once each
    tolerance = 2 * torch.finfo(dtype).eps + 2 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(y.double(), torch.softmax(logits.double(), -1).mean(0), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "weighting, expected",
    [
        ("average", [1 / 3, 1 / 3, 1 / 3]),
        ("weighted_sum", [2 / 11, 6 / 11, 3 / 11]),
        ("geometric", [1 / 7, 4 / 7, 2 / 7]),
        ("select_best", [0, 1, 0]),
    ],
)
def test_fit(weighting: str, expected: list[float]) -> None:
    module = BranchEnsemble(3, weighting, p=0.5, dtype=torch.float64)
    assert module.fit(tensor(3, 1, 2)) is module
    torch.testing.assert_close(module.branch_weights(), tensor(*expected), rtol=1e-6, atol=0)
    assert dict(module.named_buffers()).keys() == {"weights"} and not list(module.parameters())
    module.reset_parameters()
    torch.testing.assert_close(module.branch_weights(), tensor(1 / 3, 1 / 3, 1 / 3))


def test_training_the_scores_improves_the_joint_loss() -> None:
    target = torch.randint(4, (100,))
    good = 3 * torch.nn.functional.one_hot(target, 4) + torch.randn(100, 4)
    logits = torch.stack([torch.randn(100, 4), good, torch.randn(100, 4)])
    module = BranchEnsemble(3, "learned")
    assert [name for name, _ in module.named_parameters()] == ["scores"]
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    curve = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ensemble.ensemble_cross_entropy(module(logits), target)
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    assert curve[-1] < 0.6 * curve[0]
    assert module.branch_weights().argmax() == 1
    module.reset_parameters()
    torch.testing.assert_close(module.branch_weights(), torch.full((3,), 1 / 3))


# ---- errors --------------------------------------------------------------------------------------------------------
@RULES
def test_losses_that_rank_nothing(rule: Callable[[Tensor], Tensor]) -> None:
    name = rule.__name__
    for losses, got in ((torch.rand(2, 3), "(2, 3)"), (torch.rand(0), "(0,)"), (torch.tensor(1.0), "()")):
        with expect(ValueError, f"{name}: losses must be (Q,) with Q at least 1, got {got}"):
            rule(losses)
    with expect(TypeError, f"{name}: losses must be floating point, got torch.int64"):
        rule(torch.tensor([1, 2]))
    for values in ((1, NAN), (INF, INF)):
        with expect(ValueError, f"{name}: losses must have no NaN and at least one finite value, got ["):
            rule(tensor(*values))


EQUAL = torch.zeros(2, 3, 4)
THREE = torch.zeros(3, dtype=torch.int64)
WRONG = [
    (lambda: ensemble.average(0), ValueError, "average: branches must be at least 1, got 0"),
    (lambda: ensemble.weighted_sum(tensor(1, -2)), ValueError, "weighted_sum: losses must not be negative, got -2"),
    (lambda: ensemble.geometric(tensor(1, 2), 0), ValueError, "geometric: p must be in (0, 1], got 0"),
    (lambda: ensemble.geometric(tensor(1, 2), 1.5), ValueError, "geometric: p must be in (0, 1], got 1.5"),
    (
        lambda: ensemble.branch_cross_entropy(EQUAL[0], THREE),
        ValueError,
        "branch_cross_entropy: logits must be (Q, N, C), got (3, 4)",
    ),
    (
        lambda: ensemble.branch_cross_entropy(EQUAL, THREE[:2]),
        ValueError,
        "branch_cross_entropy: target must be (N,) with N = 3 as in the logits, got (2,)",
    ),
    (
        lambda: ensemble.learned(EQUAL, THREE.int()),
        TypeError,
        "learned: target must be int64, got torch.int32",
    ),
    (
        lambda: ensemble.learned(EQUAL, THREE, "log"),
        ValueError,
        "learned: space must be one of probabilities, logits, got 'log'",
    ),
    (
        lambda: ensemble.ensemble_cross_entropy(EQUAL, THREE),
        ValueError,
        "ensemble_cross_entropy: output must be (N, C), got (2, 3, 4)",
    ),
    (
        lambda: ensemble.ensemble_cross_entropy(EQUAL[0], THREE, "odds"),
        ValueError,
        "ensemble_cross_entropy: space must be one of probabilities, logits, got 'odds'",
    ),
    (lambda: BranchEnsemble(0), ValueError, "BranchEnsemble: branches must be at least 1, got 0"),
    (lambda: BranchEnsemble(2.0), TypeError, "BranchEnsemble: branches must be an int, got 2.0"),
    (
        lambda: BranchEnsemble(2, "best"),
        ValueError,
        "BranchEnsemble: weighting must be one of average, weighted_sum, geometric, select_best, learned, got 'best'",
    ),
    (lambda: BranchEnsemble(2, p=0), ValueError, "BranchEnsemble: p must be in (0, 1], got 0"),
    (
        lambda: BranchEnsemble(2, space="odds"),
        ValueError,
        "BranchEnsemble: space must be one of probabilities, logits, got 'odds'",
    ),
    (
        lambda: BranchEnsemble(2).fit(tensor(1, 2, 3)),
        ValueError,
        "BranchEnsemble.fit: losses must be (Q,) with Q = 2, got (3,)",
    ),
    (
        lambda: BranchEnsemble(2, "learned").fit(tensor(1, 2)),
        ValueError,
        'BranchEnsemble.fit: weighting must not be "learned": train `scores` on held-out data',
    ),
    (
        lambda: BranchEnsemble(3)(EQUAL),
        ValueError,
        "branch_ensemble: weights must be (Q,) with Q = 2 as in logits, got (3,)",
    ),
]


@pytest.mark.parametrize("call, error, message", WRONG, ids=[row[2].split(" must")[0] for row in WRONG])
def test_errors(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        call()


@pytest.mark.parametrize("weighting", ["average", "weighted_sum", "geometric", "select_best"])
def test_fit_refuses_nan(weighting: str) -> None:
    module = BranchEnsemble(2, weighting)
    if weighting == "average":
        module.fit(tensor(1, NAN))  # it looks at their number only
    else:
        with expect(ValueError, f"{weighting}: losses must have no NaN"):
            module.fit(tensor(1, NAN))
    assert module.weights.tolist() == [0.5, 0.5]
