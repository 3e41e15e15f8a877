"""What a user would write without spectral-ops: plain PyTorch, batched over the branches, and scipy for the DCT.

Each function has the arguments of the op it stands beside. They are the fastest plain forms found on a two-core CPU:
transforms as one GEMM in the layout the data have (no permuted copy), layers as one `baddbmm`, in-place ReLU. The same
functions in float64 are the truth that errors are measured against, and under `torch.compile` the second baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def _crelu(z: Tensor) -> Tensor:
    return torch.view_as_complex(torch.relu_(torch.view_as_real(z)))


def _modrelu(z: Tensor) -> Tensor:
    """b = -0.1; no number here is 0."""
    r = z.abs()
    return z * (torch.relu_(r - 0.1) / r)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu_,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "crelu": _crelu,
    "modrelu": _modrelu,
}
IN_PLACE = {**ACTIVATIONS, "tanh": torch.tanh_, "sigmoid": torch.sigmoid_}


def to_branches(x: Tensor, transform: Tensor) -> Tensor:
    """(N, I, Q) -> (Q', N, I): the product leaves the GEMM in branch-major layout."""
    n, i, q = x.shape
    return torch.mm(transform, x.reshape(n * i, q).mT).view(-1, n, i)


def from_branches(y: Tensor, inverse: Tensor) -> Tensor:
    """(Q', N, I) -> (N, I, Q)."""
    q, n, i = y.shape
    return torch.mm(y.reshape(q, n * i).mT, inverse.mT).view(n, i, -1)


def branch_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    y = torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    return ACTIVATIONS[activation](y)


def spectral_linear(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    output_activation: str = "none",
) -> Tensor:
    h = branch_linear(to_branches(x, transform), weight, bias, activation)
    return ACTIVATIONS[output_activation](from_branches(h, inverse))


def spectral_mlp(
    x: Tensor,
    transform: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
) -> Tensor:
    h = x if transform is None else to_branches(x, transform)
    for weight, bias, activation in zip(weights, biases, activations, strict=True):
        h = branch_linear(h, weight, bias, activation)
    return h


def literal_mlp(
    x: Tensor,
    transform: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    inverse: Tensor,
) -> Tensor:
    """`spectral_mlp` as eq. (8) prints it: every layer transforms its input and inverts its output.

    The last layer's branches are the logits, so L transforms and L - 1 inverses.
    """
    last = len(weights) - 1
    for j, (weight, bias, activation) in enumerate(zip(weights, biases, activations, strict=True)):
        h = branch_linear(to_branches(x, transform), weight, bias, activation)
        if j == last:
            return h
        x = from_branches(h, inverse)
    raise ValueError("literal_mlp: weights must hold at least one layer")


def spectral_mlp_cross_entropy(
    x: Tensor,
    transform: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    target: Tensor,
) -> tuple[Tensor, Tensor]:
    logits = spectral_mlp(x, transform, weights, biases, activations)
    q, n, c = logits.shape
    losses = functional.cross_entropy(logits.reshape(q * n, c), target.repeat(q), reduction="none")
    return losses.view(q, n).mean(1), logits


def branch_ensemble(logits: Tensor, weights: Tensor, space: str = "probabilities") -> Tensor:
    branches = torch.softmax(logits, -1) if space == "probabilities" else logits
    return torch.tensordot(weights, branches, 1)


def spectral_ensemble(
    x: Tensor,
    transform: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    activations: Sequence[str],
    branch_weights: Tensor,
    space: str = "probabilities",
) -> Tensor:
    return branch_ensemble(spectral_mlp(x, transform, weights, biases, activations), branch_weights, space)


def joint_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Eq. (19): the mean of -log of the ensemble's probability of the target."""
    return -probabilities.gather(1, target.unsqueeze(1)).log().mean()


def branch_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str = "none",
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Tensor:
    vector = None if bias is None else bias.flatten()
    geometry = (list(stride), list(padding), list(dilation))
    y = functional.conv2d(x.flatten(1, 2), weight.flatten(0, 1), vector, *geometry, weight.shape[0])
    return ACTIVATIONS[activation](y).unflatten(1, weight.shape[:2])


def branch_conv2d_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    *wants: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    flat = (grad_y.flatten(1, 2), x.flatten(1, 2), weight.flatten(0, 1))
    geometry = (list(stride), list(padding), list(dilation), False, [0, 0], weight.shape[0])
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(*flat, None, *geometry, [*wants, False])
    return grad_x.view(x.shape), grad_weight.view(weight.shape)


def spectral_conv2d_matmul(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    *geometry: Sequence[int],
) -> Tensor:
    """Transforms as one GEMM an image: nothing is moved where the channels are the slowest dimension."""

    def along(matrix: Tensor, x: Tensor, q: int) -> Tensor:
        n, c, h, w = x.shape
        return torch.matmul(matrix, x.reshape(n, q, -1)).view(n, -1, c // q, h, w)

    h = branch_conv2d(along(transform, x, transform.shape[1]), weight, bias, activation, *geometry)
    return along(inverse, h.flatten(1, 2), transform.shape[0]).flatten(1, 2).contiguous(memory_format=_format(x))


def spectral_conv2d_pointwise(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    *geometry: Sequence[int],
) -> Tensor:
    """Transforms as 1 x 1 convolutions, Kronecker products with the identity: channels_last all the way."""

    def along(matrix: Tensor, x: Tensor, width: int) -> Tensor:
        kernel = torch.kron(matrix, torch.eye(width, dtype=matrix.dtype))
        return functional.conv2d(x, kernel.view(*kernel.shape, 1, 1))

    h = along(transform, x, weight.shape[2]).unflatten(1, (weight.shape[0], weight.shape[2]))
    return along(inverse, branch_conv2d(h, weight, bias, activation, *geometry).flatten(1, 2), weight.shape[1])


def spectral_conv2d_permutes(
    x: Tensor,
    transform: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    inverse: Tensor,
    *geometry: Sequence[int],
) -> Tensor:
    """As the formula is written: the slices last for each transform, and back."""

    def along(matrix: Tensor, x: Tensor) -> Tensor:
        return (x.permute(0, 2, 3, 4, 1) @ matrix.mT).permute(0, 4, 1, 2, 3)

    h = along(transform, x.unflatten(1, (transform.shape[1], -1)))
    h = h.flatten(1, 2).contiguous(memory_format=_format(x)).unflatten(1, h.shape[1:3])
    y = along(inverse, branch_conv2d(h, weight, bias, activation, *geometry))
    return y.flatten(1, 2).contiguous(memory_format=_format(x))


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def branch_rnn(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    weight_y: Tensor,
    bias: Tensor | None,
    h0: Tensor,
    activation_h: str = "tanh",
    activation_y: str = "none",
    lengths: None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Both projections for all steps as one GEMM each, and the steps between them in place; all states are kept."""
    t, q, n, i = x.shape
    rows = x.transpose(0, 1).reshape(q, t * n, i)
    z = torch.bmm(rows, weight_x.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight_x.mT)
    h, w, states = h0, weight_h.mT, []
    for step in z.view(q, t, n, -1).unbind(1):  # not z[:, t], whose gradient would be a tensor as large as z
        h = IN_PLACE[activation_h](torch.baddbmm(step, h, w))
        states.append(h)
    all_states = torch.stack(states, 1)
    y = IN_PLACE[activation_y](torch.bmm(all_states.view(q, t * n, -1), weight_y.mT))
    return y.view(q, t, n, -1).transpose(0, 1), h, all_states.transpose(0, 1)


def dct_matrix(n: int, type: int, dtype: torch.dtype) -> Tensor:
    """The (n, n) matrix of scipy's unnormalised DCT, from integer angles in float64."""
    return _waves(n, type, torch.cos).to(dtype).contiguous()


def dst_matrix(n: int, type: int, dtype: torch.dtype) -> Tensor:
    """The (n, n) matrix of scipy's unnormalised DST, from integer angles in float64."""
    return _waves(n, type, torch.sin).to(dtype).contiguous()


def _waves(n: int, type: int, wave: Callable[[Tensor], Tensor]) -> Tensor:
    """Types 2 to 4, and 1 of sines: 2 wave(pi k j / period), k and j whole or half numbers."""
    sine = wave is torch.sin
    odd, even = 2 * torch.arange(n) + 1, 2 * (torch.arange(n) + sine)
    k, j = {1: (even, even), 2: (even, odd), 3: (odd, even), 4: (odd, odd)}[type]
    period = n + 1 if type == 1 else n
    m = 2 * wave((k[:, None] * j[None, :] % (8 * period)).double() * (math.pi / (4 * period)))
    if type == 3:
        m[:, -1 if sine else 0] /= 2
    return m


def hadamard_matrix(n: int, dtype: torch.dtype) -> Tensor:
    """The (n, n) Walsh-Hadamard matrix in natural order, divided by n^1/2."""
    m = torch.ones(1, 1, dtype=torch.float64)
    while len(m) < n:
        m = torch.cat([torch.cat([m, m], 1), torch.cat([m, -m], 1)])
    return (m * n**-0.5).to(dtype)


def along(matrix: Tensor, dim: int) -> Callable[[Tensor], Tensor]:
    """x -> matrix @ x along `dim`, without moving the dimension: a GEMM, or one batched over the outer dimensions."""

    def product(x: Tensor) -> Tensor:
        axis = dim % x.dim()
        if axis == x.dim() - 1:
            return x @ matrix.mT
        outer = x.reshape(math.prod(x.shape[:axis]), x.shape[axis], -1)
        return torch.matmul(matrix, outer).view(x.shape)

    return product


def dct_fft(n: int, type: int, dim: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """x -> its DCT along `dim` by one real FFT of the reordered values (Makhoul, IEEE TASSP 28 (1980) 27)."""
    half = n // 2 + 1
    angle = torch.arange(n, dtype=torch.float64) * (math.pi / (2 * n))
    turn = torch.complex(angle.cos(), angle.sin()).to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    j = torch.arange(n)
    order = torch.where(j % 2 == 0, j // 2, n - 1 - j // 2)

    def second(x: Tensor) -> Tensor:
        x = x.movedim(dim, -1)
        w = torch.fft.rfft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)) * turn[:half].conj()
        y = torch.cat([w.real, -w.imag[..., 1 : n - half + 1].flip(-1)], -1)
        return (2 * y).movedim(-1, dim).contiguous()

    def third(x: Tensor) -> Tensor:
        x = x.movedim(dim, -1)
        mirrored = functional.pad(x[..., 1:].flip(-1), (1, 0))
        u = torch.fft.irfft(torch.complex(x, -mirrored)[..., :half] * turn[:half], n) * n
        return u.index_select(-1, order).movedim(-1, dim).contiguous()

    def fourth(x: Tensor) -> Tensor:
        x = x.movedim(dim, -1)
        if n % 2:  # (2j+1)(2k+1) = 4jk + 2j + (2k+1): half of an FFT of length 2n
            y = torch.fft.fft(x * turn.conj(), 2 * n)[..., :n] * ends.conj()
            return (2 * y.real).movedim(-1, dim).contiguous()
        # n/2 complex values x_2j + i x_(n-1-2j), turned before and after
        t = torch.complex(x[..., ::2], x[..., 1::2].flip(-1)) * before.conj()
        y = torch.fft.fft(t) * after.conj()
        return 2 * torch.stack([y.real, -y.imag.flip(-1)], -1).flatten(-2).movedim(-1, dim)

    quarter = torch.arange(n, dtype=torch.float64) * (math.pi / n)
    ends, before, after = (
        torch.polar(torch.ones_like(a), a).to(turn.dtype)
        for a in (quarter / 2 + math.pi / (4 * n), quarter[: n // 2], quarter[: n // 2] + math.pi / (4 * n))
    )
    return {2: second, 3: third, 4: fourth}[type]


def dst_fft(n: int, type: int, dim: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """x -> its DST of type 2 to 4 along `dim`: the DCT with alternating signs and the order reversed."""
    cosine = dct_fft(n, type, -1, dtype)
    signs = 1 - 2 * (torch.arange(n) % 2).to(dtype)

    def transform(x: Tensor) -> Tensor:
        x = x.movedim(dim, -1)
        y = cosine(x * signs).flip(-1) if type == 2 else cosine(x.flip(-1)) * signs
        return y.movedim(-1, dim).contiguous()

    return transform


def dct_scipy(x: Tensor, type: int, dim: int, name: str = "dct") -> Callable[[], Tensor]:
    """scipy's transform of x, on as many threads as torch has; name: "dct" or "dst"."""
    function = _scipy(name, dim)
    return lambda: function(x, type)


def differentiable_scipy(type: int, dim: int) -> Callable[[Tensor], Tensor]:
    """scipy's DCT of type 2 to 4 with its gradient, a DCT too: what one writes who has no other."""
    function = _scipy("dct", dim)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return function(x, type)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            y, first = function(grad, {2: 3, 3: 2, 4: 4}[type]), grad.narrow(dim, 0, 1)
            if type == 2:
                y += first  # type 3 gives the first column weight 1, type 2 the first row 2
            if type == 3:
                y.narrow(dim, 0, 1).mul_(0.5)
            return y

    return Function.apply


def _scipy(name: str, dim: int) -> Callable[[Tensor, int], Tensor]:
    from scipy import fft  # a run without scipy leaves its column empty

    workers = torch.get_num_threads()
    return lambda x, type: torch.from_numpy(getattr(fft, name)(x.detach().numpy(), type, axis=dim, workers=workers))


def dct_of_the_wheel(type: int, dim: int) -> Callable[[Tensor], Tensor]:
    """torch-dct's DCT of type 2 or 3, of which it has the inverse of type 2; it knows the last axis only."""
    import torch_dct

    def last(x: Tensor) -> Tensor:
        return torch_dct.dct(x) if type == 2 else torch_dct.idct(x) * (2 * x.shape[-1])

    return last if dim == -1 else lambda x: last(x.movedim(dim, -1)).movedim(-1, dim).contiguous()


def dctn_scipy(x: Tensor, type: int, dim: Sequence[int]) -> Callable[[], Tensor]:
    """scipy's transform of x along several dimensions, on as many threads as torch has."""
    from scipy import fft

    values, workers = x.numpy(), torch.get_num_threads()
    return lambda: torch.from_numpy(fft.dctn(values, type, axes=dim, workers=workers))
