"""Recurrent branches in complex numbers: against loops in numpy, half the spectrum, and at their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from complex_samples import ACTIVATIONS, complex_rows
from samples import Sample, fourier
from test_complex import act, equal, mirrored, normal
from torch import Tensor

ops = torch.ops.spectral
D, Z = torch.float64, torch.complex128


def numpy_states(args: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, the last state and all states, each sequence of each branch by itself."""
    *tensors, activation_h, activation_y, lengths = args
    x, wx, wh, wy, bias, h0 = (None if t is None else t.numpy().astype(complex) for t in tensors)
    steps, branches, samples, _ = x.shape
    y, states = np.zeros((steps, branches, samples, wy.shape[1]), complex), np.zeros((steps, *h0.shape), complex)
    last = h0.copy()
    for q in range(branches):
        for n in range(samples):
            h = h0[q, n]
            for t in range(steps):
                if lengths is None or t < lengths[n]:
                    h = act(activation_h, wx[q] @ x[t, q, n] + wh[q] @ h + (0 if bias is None else bias[q]))
                    y[t, q, n] = act(activation_y, wy[q] @ h)
                states[t, q, n] = h
            last[q, n] = h
    return y, last, states


@pytest.mark.parametrize("row", complex_rows("branch_rnn_with_states"), ids=lambda row: row.id)
def test_is_its_loop(row: Sample) -> None:
    args = row.make(D)
    wanted = [torch.from_numpy(a) for a in numpy_states(args)]
    for got in (ops.branch_rnn_with_states(*args), ops.branch_rnn(*args)):
        for a, b in zip(got, wanted, strict=False):
            assert a.dtype == Z and a.is_contiguous()
            equal(a, b, 1e-11)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("q", [5, 6])
def test_half_a_spectrum_is_the_whole_one(activation: str, q: int) -> None:
    """Over six steps, exactly when the activation commutes with conjugation; real weights at 0 and Q/2."""
    t, n, i, o, p = 6, 3, 4, 5, q // 2 + 1
    shapes = ((p, o, i), (p, o, o), (p, i, o), (p, o))
    half = [normal(*s, seed=k) / 2 for k, s in enumerate(shapes)]
    for w in half:
        for k in {0, q // 2} if q % 2 == 0 else {0}:
            w[k] = w[k].real + 0j
    x = normal(t * n, i, q, dtype=D)
    found = []
    for weights, width in ((half, p), ([mirrored(w, q) for w in half], q)):
        matrix, inverse = fourier(q, width)
        branches = ops.to_branches(x, matrix).view(width, t, n, i).transpose(0, 1)
        h0 = torch.zeros(width, n, o, dtype=Z)
        y, _ = ops.branch_rnn(branches, *weights, h0, activation, activation)
        found.append(ops.from_branches(y.transpose(0, 1).reshape(width, t * n, i), inverse))
    assert found[0].dtype == D and found[1].dtype == Z
    same = torch.allclose(found[0] + 0j, found[1], rtol=1e-10, atol=1e-10)
    assert same == (activation not in ("crelu", "zrelu"))


def test_a_thousand_steps_and_one() -> None:
    """A unitary recurrence without activation neither grows nor fades: H_t is a rotation of H_0."""
    q, p = 2, 3
    rotation = torch.linalg.qr(normal(q, p, p))[0]
    h0, nothing = normal(q, 4, p, seed=1), torch.zeros(q, p, 1, dtype=D)
    for steps in (1, 1000):
        x = torch.zeros(steps, q, 4, 1, dtype=D)
        _, h = ops.branch_rnn(x, nothing, rotation, torch.zeros(q, 1, p, dtype=D), None, h0, "none")
        equal(h, h0 @ torch.linalg.matrix_power(rotation, steps).mT, 1e-10)


@pytest.mark.parametrize("activation", ["none", "crelu", "modrelu", "cardioid"])
def test_exploding_states_are_not_finite(activation: str) -> None:
    leaves = [t.clone().requires_grad_() for t in _exploding()]
    y, h = ops.branch_rnn(*leaves, activation)
    assert not torch.view_as_real(h).isfinite().all(-1).any() and bool(torch.view_as_real(y[0]).isfinite().all())
    grads = torch.autograd.grad(y.abs().sum(), leaves)
    assert not torch.view_as_real(grads[2]).isfinite().all()


def _exploding() -> list[Tensor]:
    """Positive real and imaginary parts, whose states turn in the complex plane while they grow."""
    shapes, single = ((300, 1, 2, 2), (1, 3, 2), (1, 3, 3), (1, 2, 3), (1, 3), (1, 2, 3)), torch.complex64
    tensors = [normal(*s, seed=k, dtype=single) for k, s in enumerate(shapes)]
    tensors = [torch.complex(t.real.abs() + 1, t.imag.abs() / 100) for t in tensors]
    tensors[2] = 40 * tensors[2].real + 0j
    return tensors
