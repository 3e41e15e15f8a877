"""Recurrent branches and SpectralRNN: against loops of torch.nn.functional and torch.nn.RNN, and at their limits."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from samples import ACTIVATIONS, T, make, rows_of
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from spectral_ops.nn import SpectralRNN
from spectral_ops.ops.activations import apply
from spectral_ops.transforms import DCT, Identity, Matrix

ops = torch.ops.spectral
D = torch.float64


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def arguments(t: int, q: int, n: int, i: int, p: int, o: int, dtype: torch.dtype = D) -> list[Tensor]:
    weights = [T((q, p, i), "weight"), T((q, p, p), "weight"), T((q, o, p), "weight")]
    return make([T((t, q, n, i)), *weights, T((q, p), "bias"), T((q, n, p), "state")], dtype)


def loop(x, weight_x, weight_h, weight_y, bias, h0, activation_h, activation_y, lengths=None) -> tuple[Tensor, Tensor]:
    """Each branch and each sequence by itself, a step at a time."""
    steps, branches, samples, _ = x.shape
    y, last = x.new_zeros(steps, branches, samples, weight_y.shape[1]), h0.clone()
    for q in range(branches):
        for n in range(samples):
            h = h0[q, n]
            for t in range(steps if lengths is None else int(lengths[n])):
                z = functional.linear(x[t, q, n], weight_x[q], None if bias is None else bias[q])
                h = apply(activation_h, z + functional.linear(h, weight_h[q]))
                y[t, q, n] = apply(activation_y, functional.linear(h, weight_y[q]))
            last[q, n] = h
    return y, last


@pytest.mark.parametrize("ends", [False, True], ids=["all", "ends"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_is_its_loop(activation: str, ends: bool, backend: str) -> None:
    args = arguments(4, 2, 5, 3, 6, 2)
    lengths = torch.tensor([4, 0, 2, 1, 3]) if ends else None
    for other in ("none", "tanh"):
        got = ops.branch_rnn(*args, activation, other, lengths)
        torch.testing.assert_close(got, loop(*args, activation, other, lengths), rtol=1e-11, atol=1e-12)


def test_states(backend: str) -> None:
    """All of them; where a sequence has ended its last one again, and y is 0."""
    args, lengths = arguments(3, 2, 2, 3, 4, 2), torch.tensor([1, 3])
    y, h, states = ops.branch_rnn_with_states(*args, "tanh", "none", lengths)
    assert torch.equal(states[2], h) and torch.equal(states[0, :, 0], states[2, :, 0])
    assert not y[1:, :, 0].any() and y[0, :, 0].all() and y[:, :, 1].all()
    for t in range(3):
        first = ops.branch_rnn(args[0][: t + 1], *args[1:], "tanh", "none", lengths)[1]
        torch.testing.assert_close(states[t], first, rtol=1e-12, atol=1e-13)


def test_what_lies_behind_the_end_is_not_looked_at(backend: str) -> None:
    args, lengths = arguments(5, 2, 3, 4, 6, 2), torch.tensor([2, 5, 0])
    results = []
    for padding in (0.0, float("nan")):
        x = args[0].clone()
        for n, length in enumerate(lengths.tolist()):
            x[length:, :, n] = padding
        leaves = [t.clone().requires_grad_() for t in (x, *args[1:])]
        y, h = ops.branch_rnn(*leaves, "tanh", "sigmoid", lengths)
        results.append([y, h, *torch.autograd.grad(y.sum() + h.sum(), leaves)])
    for a, b in zip(*results, strict=True):
        assert a.isfinite().all() and torch.equal(a, b)


@pytest.mark.parametrize("lengths", [[9, -3], [0, 0]], ids=str)
def test_lengths_out_of_range_are_the_nearest_in_it(lengths: list[int], backend: str) -> None:
    args = arguments(3, 1, 2, 2, 4, 2)
    got = ops.branch_rnn(*args, "tanh", "none", torch.tensor(lengths))
    wanted = ops.branch_rnn(*args, "tanh", "none", torch.tensor(lengths).clamp(0, 3))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    if not any(lengths):
        assert torch.equal(got[1], args[5]) and not got[0].any()


def test_no_step_and_no_sample(backend: str) -> None:
    args = arguments(0, 2, 3, 4, 5, 2)
    leaves = [t.requires_grad_() for t in args]
    y, h = ops.branch_rnn(*leaves)
    assert y.shape == (0, 2, 3, 2) and torch.equal(h, args[5]) and h.data_ptr() != args[5].data_ptr()
    grads = torch.autograd.grad(h.sum(), leaves, allow_unused=True)
    assert torch.equal(grads[5], torch.ones_like(h)) and not any(g.any() for g in grads[:5] if g is not None)
    leaves = [t.requires_grad_() for t in arguments(3, 2, 0, 4, 5, 2)]
    y, h = ops.branch_rnn(*leaves)
    assert y.shape == (3, 2, 0, 2) and h.shape == (2, 0, 5)
    assert not any(g.any() for g in torch.autograd.grad(y.sum() + h.sum(), leaves))


@pytest.mark.parametrize("dtype", [torch.float32, D], ids=str)
def test_a_thousand_steps(dtype: torch.dtype, backend: str) -> None:
    """Values and gradients, through many pieces; weights of half the usual size forget the errors of long ago."""
    args = [a * (0.5 if k == 2 else 1) for k, a in enumerate(arguments(1000, 2, 3, 4, 6, 2, dtype))]
    leaves = [t.clone().requires_grad_() for t in args]
    exact = [t.double().requires_grad_() for t in args]
    y, h = ops.branch_rnn(*leaves)
    wanted, state, inputs = [], exact[5], exact[0] @ exact[1].mT + exact[4].unsqueeze(1)
    for t in range(1000):
        state = torch.tanh(inputs[t] + state @ exact[2].mT)
        wanted.append(state @ exact[3].mT)
    got = [y, h, *torch.autograd.grad(y.square().sum(), leaves)]
    expected = torch.stack(wanted)
    grads = torch.autograd.grad(expected.square().sum(), exact)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    for a, b in zip(got, (expected, state, *grads), strict=True):
        assert (a.double() - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_exploding_states_become_inf(activation: str, backend: str) -> None:
    x, wx, wh, wy, bias, h0 = arguments(300, 1, 2, 2, 3, 2, torch.float32)
    leaves = [t.abs().requires_grad_() for t in (x, wx, 40 * wh, wy, bias, h0)]
    y, h = ops.branch_rnn(*leaves, activation)
    assert not h.isfinite().any() and y[0].isfinite().all()
    grads = torch.autograd.grad(y.nan_to_num(0, 0, 0).sum() + y.sum(), leaves)
    assert not grads[2].isfinite().all()


def test_the_state_stays_wide_in_half(backend: str) -> None:
    """bfloat16 rounds once, at the end: not at each of 100 steps."""
    args = arguments(100, 2, 3, 4, 6, 2, torch.bfloat16)
    y, h = ops.branch_rnn(*args)
    exact = ops.branch_rnn(*[t.double() for t in args])
    for a, b in zip((y, h), exact, strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.double(), b, rtol=2**-8, atol=1e-4)


def test_only_one_result_is_differentiated(backend: str) -> None:
    """The gradient of the other one is None, not zeros."""
    args = [t.requires_grad_() for t in arguments(3, 2, 4, 3, 5, 2)]
    for f in (lambda y, h: y.sin().sum(), lambda y, h: h.sin().sum()):
        got = torch.autograd.grad(f(*ops.branch_rnn(*args)), args, allow_unused=True)
        wanted = torch.autograd.grad(f(*loop(*args, "tanh", "none")), args, allow_unused=True)
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-10, atol=1e-12)


def test_wide_states_run_on_the_reference() -> None:
    from spectral_ops import explain

    text = explain("branch_rnn", *arguments(2, 1, 2, 3, 129, 2))
    assert "-> reference" in text and "129 features" in text
    assert len(rows_of("branch_rnn")) > 8


# ---- SpectralRNN ---------------------------------------------------------------------------------------------------
def twins(layers: int, both: bool, bias: bool, activation: str = "tanh", **rest) -> tuple[nn.RNN, SpectralRNN]:
    """torch's layer, and ours with one branch, no transform and the same weights."""
    dense = nn.RNN(3, 5, layers, activation, bias, bidirectional=both, dtype=D, **rest)
    ours = SpectralRNN(3, 5, 1, None, Identity(1), layers, activation, bias, bidirectional=both, dtype=D, **rest)
    with torch.no_grad():
        for layer in range(layers):
            for direction in ("", "_reverse") if both else ("",):
                end = f"l{layer}{direction}"
                getattr(ours, f"weight_x_{end}")[0] = getattr(dense, f"weight_ih_{end}")
                getattr(ours, f"weight_h_{end}")[0] = getattr(dense, f"weight_hh_{end}")
                if bias:
                    getattr(ours, f"bias_{end}")[0] = getattr(dense, f"bias_ih_{end}") + getattr(
                        dense, f"bias_hh_{end}"
                    )
    return dense, ours


@pytest.mark.parametrize("both", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("batch_first", [False, True])
def test_is_torchs_rnn(layers: int, both: bool, batch_first: bool) -> None:
    for activation, bias in (("tanh", True), ("relu", False)):
        dense, ours = twins(layers, both, bias, activation, batch_first=batch_first)
        x = torch.randn(4, 6, 3, dtype=D, requires_grad=True)
        h0 = torch.randn(layers * (1 + both), 4 if batch_first else 6, 5, dtype=D, requires_grad=True)
        for start in (None, h0):
            y, h = dense(x, start)
            out, h_n = ours(x.unsqueeze(-1), None if start is None else start.unsqueeze(-1))
            torch.testing.assert_close((out.squeeze(-1), h_n.squeeze(-1)), (y, h), rtol=1e-11, atol=1e-12)
        wanted = torch.autograd.grad(y.sin().sum() + h.cos().sum(), (x, h0, dense.weight_hh_l0))
        got = torch.autograd.grad(out.sin().sum() + h_n.cos().sum(), (x, h0, ours.weight_h_l0))
        torch.testing.assert_close((*got[:2], got[2][0]), wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("both", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("ordered", [False, True], ids=["unsorted", "sorted"])
def test_packed_sequences_are_torchs(both: bool, ordered: bool) -> None:
    dense, ours = twins(2, both, True)
    lengths = [5, 3, 3, 1] if ordered else [3, 1, 5, 3]
    sequences = [torch.randn(length, 3, dtype=D) for length in lengths]
    h0 = torch.randn(2 * (1 + both), 4, 5, dtype=D)
    y, h = dense(pack_sequence(sequences, ordered), h0)
    out, h_n = ours(pack_sequence([s.unsqueeze(-1) for s in sequences], ordered), h0.unsqueeze(-1))
    torch.testing.assert_close((out.data.squeeze(-1), h_n.squeeze(-1)), (y.data, h), rtol=1e-11, atol=1e-12)
    assert torch.equal(out.batch_sizes, y.batch_sizes)
    torch.testing.assert_close(pad_packed_sequence(out)[0].squeeze(-1), pad_packed_sequence(y)[0])


@pytest.mark.parametrize("packed", [False, True])
def test_branches_are_networks_of_their_own(packed: bool) -> None:
    """With a transform: torch's layers on the transformed sequences, transformed back."""
    q, transform = 3, Matrix(2 * torch.eye(3, dtype=D) + 0.3 * torch.randn(3, 3, dtype=D), learned=True)
    net = SpectralRNN(4, 5, q, 2, transform, num_layers=2, bidirectional=True, output_activation="sigmoid", dtype=D)
    x, h0 = torch.randn(6, 3, 4, q, dtype=D), torch.randn(4, 3, 5, q, dtype=D)
    lengths = torch.tensor([6, 4, 1])
    tubes = [torch.einsum("pq,tniq->ptni", transform.matrix, t) for t in (x, h0)]
    outs, states = [], []
    for branch in range(q):
        dense = nn.RNN(4, 5, 2, bidirectional=True, dtype=D)
        for layer in range(2):
            for direction in ("", "_reverse"):
                end = f"l{layer}{direction}"
                for ours, theirs in (("weight_x_", "weight_ih_"), ("weight_h_", "weight_hh_"), ("bias_", "bias_ih_")):
                    setattr(dense, theirs + end, nn.Parameter(getattr(net, ours + end)[branch]))
                nn.init.zeros_(getattr(dense, f"bias_hh_{end}"))
        given = pack_padded_sequence(tubes[0][branch], lengths) if packed else tubes[0][branch]
        h, state = dense(given, tubes[1][branch])
        h = pad_packed_sequence(h)[0] if packed else h
        halves = zip(h.split(5, -1), (net.weight_y, net.weight_y_reverse), strict=True)
        outs.append(torch.cat([torch.sigmoid(part @ w[branch].mT) for part, w in halves], -1))
        states.append(state)
    inverse = torch.linalg.inv(transform.matrix)
    wanted = [torch.einsum("qp,ptno->tnoq", inverse, torch.stack(t)) for t in (outs, states)]
    out, h_n = net(pack_padded_sequence(x, lengths) if packed else x, h0)
    if packed:
        out, mask = pad_packed_sequence(out)[0], torch.arange(6)[:, None] < lengths
        wanted[0] = wanted[0] * mask[:, :, None, None]
    torch.testing.assert_close((out, h_n), tuple(wanted), rtol=1e-10, atol=1e-11)
    (out.sum() + h_n.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("both", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("output", [None, 2])
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_to_dense_is_the_same_function(both: bool, output: int | None, activation: str) -> None:
    """torch's layer in its place, under transforms that are not orthogonal."""
    for transform in (DCT(3, norm="backward"), Matrix(torch.randn(3, 3, dtype=D), learned=True)):
        net = SpectralRNN(4, 5, 3, output, transform, 2, activation, batch_first=both, bidirectional=both, dtype=D)
        for p in net.parameters():
            nn.init.normal_(p, std=0.3)
        rnn, out = net.to_dense()
        x = torch.randn(4, 6, 4, 3, dtype=D)
        torch.testing.assert_close(out(rnn(x.flatten(-2))[0]), net(x)[0].flatten(-2), rtol=1e-10, atol=1e-10)
        single = SpectralRNN(4, 5, 3, output, DCT(3)).to_dense()
        assert single[0].weight_hh_l0.dtype == single[1].weight.dtype == torch.float32


def test_in_branches_gives_logits_for_an_ensemble() -> None:
    net = SpectralRNN(28, 16, 28, 10)
    y, h_n = net.in_branches(torch.rand(28, 4, 28, 28))
    assert y.shape == (28, 28, 4, 10) and h_n.shape == (1, 28, 4, 16)
    mixed = ops.branch_ensemble(y[-1], torch.full((28,), 1 / 28))
    torch.testing.assert_close(mixed.sum(-1), torch.ones(4))


def test_dropout_is_between_layers_and_in_training_only() -> None:
    x = torch.randn(3, 2, 4, 5)
    one, two = (SpectralRNN(4, 6, 5, dropout=0.5, num_layers=layers) for layers in (1, 2))
    assert torch.equal(one(x)[0], one(x)[0]) and not torch.equal(two(x)[0], two(x)[0])
    two.eval()
    assert torch.equal(two(x)[0], two(x)[0])


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_states_keep_their_variance(activation: str) -> None:
    """Over steps and layers, the second moment stays within a factor of four of the input's."""
    net = SpectralRNN(32, 64, 8, num_layers=3, nonlinearity=activation)
    y, _ = net.in_branches(torch.randn(20, 64, 32, 8))
    assert 0.25 < y[-1].square().mean() < 4
    assert 0.25 < y[-1].square().mean() / y[4].square().mean() < 4


def test_compiles_and_learns() -> None:
    """To tell rising sequences from falling ones; one step compiled, without a graph break."""
    net = SpectralRNN(1, 6, 4, 2, batch_first=True)
    slope = torch.randint(0, 2, (64,)) * 2 - 1
    x = slope[:, None, None, None] * torch.linspace(-1, 1, 9)[None, :, None, None] + 0.3 * torch.randn(64, 9, 1, 4)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], net(x)[0])
    adam = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(40):
        adam.zero_grad()
        loss = functional.cross_entropy(net(x)[0][:, -1].mean(-1), (slope + 1) // 2)
        loss.backward()
        adam.step()
    assert loss < 0.2
    twin = SpectralRNN(1, 6, 4, 2, batch_first=True)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(x)[0], net(x)[0])


def test_counts_and_text() -> None:
    net = SpectralRNN(3, 5, 4, 2, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
    weights = 4 * 2 * ((3 * 5 + 5 * 5) + (10 * 5 + 5 * 5) + 2 * 5)
    assert net.parameter_count() == weights + 4 * 2 * 2 * 5
    assert net.operations() == weights + (3 + 2 * 2) * 16
    assert net.extra_repr() == (
        "3, 5, branches=4, output_size=2, nonlinearity='tanh', num_layers=2, batch_first=True, dropout=0.1, "
        "bidirectional=True"
    )
    assert SpectralRNN(3, 5, 4, transform=DCT(4, 3)).extra_repr() == "3, 5, branches=4, nonlinearity='tanh'"


WRONG: list[tuple[Callable, type[Exception], str]] = [
    (lambda: SpectralRNN(0, 5, 4), ValueError, "SpectralRNN: input_size must be at least 1, got 0"),
    (lambda: SpectralRNN(3, 5.0, 4), TypeError, "SpectralRNN: hidden_size must be an int, got 5.0"),
    (lambda: SpectralRNN(3, 5, 0), ValueError, "SpectralRNN: branches must be at least 1, got 0"),
    (lambda: SpectralRNN(3, 5, 4, 0), ValueError, "SpectralRNN: output_size must be at least 1, got 0"),
    (lambda: SpectralRNN(3, 5, 4, num_layers=0), ValueError, "SpectralRNN: num_layers must be at least 1, got 0"),
    (lambda: SpectralRNN(3, 5, 4, dropout=1.5), ValueError, "SpectralRNN: dropout must be in [0, 1], got 1.5"),
    (
        lambda: SpectralRNN(3, 5, 4, nonlinearity="elu"), ValueError,
        f"SpectralRNN: nonlinearity must be one of {', '.join(ACTIVATIONS)}, got 'elu'",
    ),
    (
        lambda: SpectralRNN(3, 5, 4, output_activation="softmax"), ValueError,
        f"SpectralRNN: output_activation must be one of {', '.join(ACTIVATIONS)}, got 'softmax'",
    ),
    (
        lambda: SpectralRNN(3, 5, 4, transform=DCT(3)), ValueError,
        "SpectralRNN: transform must have length 4 as branches, got 3",
    ),
    (
        lambda: SpectralRNN(3, 5, 4)(torch.ones(2, 3, 4)), ValueError,
        "SpectralRNN: x must be (T, N, I, Q) with I = 3 and Q = 4, got (2, 3, 4)",
    ),
    (
        lambda: SpectralRNN(3, 5, 4, batch_first=True)(torch.ones(7, 2, 4, 3)), ValueError,
        "SpectralRNN: x must be (N, T, I, Q) with I = 3 and Q = 4, got (7, 2, 4, 3)",
    ),
    (
        lambda: SpectralRNN(3, 5, 4)(torch.ones(7, 2, 3, 4), torch.ones(2, 2, 5, 4)), ValueError,
        "SpectralRNN: h0 must be (num_layers D, N, P, Q) = (1, 2, 5, 4), got (2, 2, 5, 4)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("function", "error", "text"), WRONG, ids=[text for _, _, text in WRONG])
def test_wrong_arguments(function: Callable, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match="^" + re.escape(text) + "$"):
        function()
