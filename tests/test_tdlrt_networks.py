"""TDLRT in whole networks: beside other optimisers, over checkpoints, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_ops.compress import TDLRT, Fraction, to_tucker
from spectral_ops.compress.k_step import batched
from spectral_ops.nn import TuckerLinear

D = torch.float64
pytestmark = pytest.mark.usefixtures("seeded")


def network() -> nn.Sequential:
    dense = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2),
        nn.ReLU(), nn.Conv2d(12, 12, 3, groups=2), nn.Dropout(0.2), nn.Flatten(), nn.Linear(12 * 9, 24), nn.ReLU(),
        nn.Linear(24, 3),
    )  # fmt: skip
    return to_tucker(dense, Fraction(0.4), skip=["10"], spatial=True)[0]


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(32, 1, 11, 11, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0, 3, 3] > 0).long() + (x[:, 0, 7, 7] > 0).long()


def train(model: nn.Module, trainer: TDLRT, rest: torch.optim.Optimizer, steps: int) -> list[float]:
    x, target = data()
    losses = []
    for _ in range(steps):
        torch.manual_seed(len(losses))
        losses.append(float(trainer.step(lambda: functional.cross_entropy(model(x), target))))
        rest.step()
    return losses


def test_a_mixed_model_trains_and_shrinks() -> None:
    model = network()
    trainer = TDLRT(model, tau=0.2, lr=0.3)
    assert set(trainer.ranks) == {"3", "8"}  # the first saves nothing, groups and the skipped one are left
    assert {id(p) for p in trainer.rest} >= {
        id(model[1].weight),
        id(model[10].weight),
        id(model[3].bias),
        id(model[5].core),
    }
    rest = torch.optim.Adam(trainer.rest, lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(trainer, 20, 0.5)
    before = sum(p.numel() for p in model.parameters())
    norm = copy.deepcopy(model[1])
    torch.manual_seed(0)
    losses = train(model, trainer, rest, 1)
    x, _ = data()
    torch.manual_seed(0)
    assert int(model[1].num_batches_tracked) == int(norm.num_batches_tracked) + 1
    losses += train(model, trainer, rest, 40)
    scheduler.step()
    assert losses[-1] < 0.3 * losses[0]
    assert sum(p.numel() for p in model.parameters()) < before
    assert all(p.requires_grad for p in model.parameters())
    assert "convolve" not in model[3].__dict__ and "multiply" not in model[8].__dict__
    assert model(x).shape == (32, 3)


def test_both_passes_see_the_same_random_numbers() -> None:
    model = nn.Sequential(TuckerLinear(30, 20, ranks=(3, 3)), nn.Dropout(0.5))
    trainer = TDLRT(model, tau=0.0, lr=0.0)
    seen = []

    def closure() -> Tensor:
        y = model(torch.ones(1, 30))
        seen.append((y != 0).clone())
        return y.sum()

    trainer.step(closure)
    trainer.step(closure)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[2], seen[3]) and not torch.equal(seen[0], seen[2])


def test_checkpoint_and_resume_across_rank_changes(tmp_path) -> None:
    """Saved in the middle and resumed in new objects of other ranks: the same bits as without the break."""
    model = network()
    trainer = TDLRT(model, tau=0.02, lr=0.3, momentum=0.5)
    rest = torch.optim.SGD(trainer.rest, lr=0.05, momentum=0.5)
    train(model, trainer, rest, 5)
    torch.save(
        {"model": model.state_dict(), "trainer": trainer.state_dict(), "rest": rest.state_dict()}, tmp_path / "at3"
    )
    ranks = dict(trainer.ranks)
    wanted = train(model, trainer, rest, 10)
    assert trainer.ranks != ranks, "the ranks should change after the checkpoint"
    for model_first in (True, False):
        torch.manual_seed(99)
        again = network()
        found = torch.load(tmp_path / "at3", weights_only=True)
        if model_first:
            again.load_state_dict(found["model"])
            resumed = TDLRT(again, tau=0.5, lr=1.0)
        else:
            resumed = TDLRT(again, tau=0.5, lr=1.0)
            again.load_state_dict(found["model"])
        resumed.load_state_dict(found["trainer"])
        assert resumed.ranks == ranks and resumed.param_groups[0]["tau"] == 0.02
        other = torch.optim.SGD(resumed.rest, lr=0.05, momentum=0.5)
        other.load_state_dict(found["rest"])
        assert train(again, resumed, other, 10) == wanted
        for a, b in zip(model.parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b)


def test_equal_shapes_go_in_one_call() -> None:
    calls = []

    def qr(m: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(tuple(m.shape))
        return torch.linalg.qr(m)

    matrices = [torch.randn(6, 3, dtype=D), torch.randn(5, 2, dtype=D), torch.randn(6, 3, dtype=D)]
    for m, (q, r) in zip(matrices, batched(qr, matrices), strict=True):
        torch.testing.assert_close(q @ r, m)
    assert calls == [(2, 6, 3), (5, 2)]


def test_a_layer_used_twice_and_one_not_used() -> None:
    model = nn.ModuleDict(
        {"twice": TuckerLinear(9, 9, ranks=(2, 2), dtype=D), "idle": TuckerLinear(9, 9, ranks=(2, 2), dtype=D)}
    )
    trainer = TDLRT(model, tau=1e-9, lr=0.05, momentum=0.0)
    x, target = torch.randn(20, 9, dtype=D), torch.randn(20, 9, dtype=D)
    idle = model["idle"].weight().detach()

    def closure() -> Tensor:
        return (model["twice"](model["twice"](x)) - target).square().mean()

    losses = [float(trainer.step(closure)) for _ in range(30)]
    assert all(b < a for a, b in itertools.pairwise(losses))
    torch.testing.assert_close(model["idle"].weight().detach(), idle)
    assert math.isfinite(losses[-1])


def test_a_training_that_diverges_says_so() -> None:
    model = nn.Sequential(TuckerLinear(9, 9, ranks=(2, 2)))
    trainer = TDLRT(model, lr=1e30)
    with pytest.raises(FloatingPointError, match=r"^TDLRT: each step must end in finite cores, got others at lr 1e"):
        for _ in range(5):
            trainer.step(lambda: model(torch.ones(2, 9)).square().sum())


WRONG = [
    (lambda: TDLRT(3), TypeError, "TDLRT: model must be a torch.nn.Module, got int"),
    (lambda: TDLRT(nn.Linear(2, 2)), ValueError, "TDLRT: model must have layers in Tucker form without groups, got"),
    (lambda: TDLRT(network(), tau=-0.1), ValueError, "TDLRT: tau must be at least 0, got -0.1"),
    (lambda: TDLRT(network(), momentum=float("nan")), ValueError, "TDLRT: momentum must be at least 0, got nan"),
    (lambda: TDLRT(network(), min_rank=3, max_rank=2), ValueError, "TDLRT: ranks must have 1 <= min_rank <= max_rank"),
    (lambda: TDLRT(network()).step(), ValueError, "TDLRT: closure must be given, a function of the loss, got None"),
    (lambda: TDLRT(network()).load_state_dict({"layers": {"0": {}}, "options": {}}), ValueError,
     "TDLRT: state_dict must be of the layers 3, 8, got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG, ids=[text for *_, text in WRONG])
def test_errors(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match="^" + text):
        call()
