"""SpectralMLP: paper 1's fully connected spectral network, Q branches of all its layers in one kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import ensemble
from ..transforms import Transform
from . import arguments, dense, structured


class SpectralMLP(nn.Module):
    """FC-tensor: Q independent networks, each on one spectral component of x, whose outputs an ensemble combines.

    h_0 = L(x)_q; h_j = act(W_j,q h_(j-1) + b_j,q) for j < L; logits_q = W_L,q h_(L-1), for each branch q.
    Because the activation acts in the spectral domain, all transforms between the layers cancel (2L - 1 of 2L), and the
    branches never meet before `predict`.

    Args:
        features: [I, ..., C], one number more than layers: eight layers for MNIST are [28] * 8 + [10].
        branches: Q, the length of the tubes.
        transform: a `spectral_ops.transforms.Transform` of length Q; default DCT(Q), orthonormal.
        rank: the tubal rank R of every layer: W = C D (eq. 13-16). None: full.
        activation: of the hidden layers: none, relu, gelu, silu, tanh or sigmoid; of complex branches none, crelu,
            modrelu, modrelu:B, zrelu or cardioid. Default: relu, or crelu.
        bias: of the hidden layers. output_bias: of the last one, which has none in the paper (eq. 12).
        complex_weights: whether weights and biases are complex; default: where the transform is. The branches are
            complex where either is.
        readout: what counts of complex logits: "real", the real part, or "abs", the modulus. Only the first is fused
            with losses and ensembles.

    Parameters:
        weights: a list, (Q', O, I) for each layer; with a rank two for each layer, (Q', R, I) then (Q', O, R).
        biases: a list, (Q', O) for each layer that has one; zero at first.
        Complex ones are kept as pairs of real numbers, (..., 2). The weights start uniform, with He's variance for a
        branch's own fan-in and for the activation; modrelu's is for features of size 1.

    Shapes: x (N, I, Q) -> logits (Q', N, C), always real (the readout).
    Raises: ValueError for sizes, names and a transform of another length; TypeError for the wrong type.
    Accuracy, gradient: those of `torch.ops.spectral.spectral_mlp`, `..._cross_entropy` and `spectral_ensemble`.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (8)-(18).

    >>> net = SpectralMLP([28] * 8 + [10], branches=28, rank=8)
    >>> losses, logits = net.loss(torch.rand(64, 28, 28), torch.randint(10, (64,)))
    >>> losses.sum().backward()  # every branch learns from its own loss
    """

    def __init__(
        self,
        features: Sequence[int],
        branches: int,
        transform: Transform | None = None,
        rank: int | None = None,
        activation: str | None = None,
        bias: bool = True,
        output_bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        complex_weights: bool | None = None,
        readout: str = "real",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if isinstance(features, int) or len(features) < 2:
            raise ValueError(f"{name}: features must be at least two sizes, input and output, got {features}")
        self.features = [arguments.size(name, f"features[{i}]", f) for i, f in enumerate(features)]
        self.branches = arguments.size(name, "branches", branches)
        self.rank = None if rank is None else arguments.size(name, "rank", rank)
        self.transform = arguments.transform(name, transform, branches)
        self.complex_weights = arguments.complex_weights(name, complex_weights, self.transform, dtype)
        self.is_complex = self.complex_weights or not self.transform.is_real
        self.activation = arguments.activation(name, activation, self.is_complex)
        self.readout = arguments.readout(name, readout, self.is_complex)
        self.bias, self.output_bias = bias, output_bias
        self.layers = len(features) - 1

        pair = [2] if self.complex_weights else []

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(self.transform.branches, *shape, *pair, device=device, dtype=dtype))

        weights, biases = [], []
        self._activations: list[str] = []  # one a weight, as the op wants it
        self._has_bias: list[bool] = []
        for j in range(self.layers):
            i, o, last = self.features[j], self.features[j + 1], j == self.layers - 1
            if self.rank is None:
                weights.append(parameter(o, i))
            else:
                weights += [parameter(self.rank, i), parameter(o, self.rank)]
                self._activations.append("none")
                self._has_bias.append(False)
            self._activations.append("none" if last else self.activation)
            self._has_bias.append(output_bias if last else bias)
            if self._has_bias[-1]:
                biases.append(parameter(o))
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random weights that keep the variance of the features through all layers; zero biases."""
        weights, activations = list(self.weights), self._activations
        if self.rank is None:
            for weight, activation in zip(weights, activations, strict=True):
                arguments.fill(weight, weight.shape[2], activation, self.complex_weights)
        else:
            for weight_in, weight_out, activation in zip(weights[::2], weights[1::2], activations[1::2], strict=True):
                arguments.fill_low_rank(weight_in, weight_out, activation, self.complex_weights)
        for bias in self.biases:
            nn.init.zeros_(bias)

    def network(self) -> tuple[list[Tensor], list[Tensor | None], list[str]]:
        """(weights, biases, activations), one entry per matrix: the arguments that the ops take."""
        # the dicts themselves: indexing a ParameterList takes a microsecond an entry, much of a small batch's forward
        weights = [w for w in self.weights._parameters.values() if w is not None]
        vectors = [b for b in self.biases._parameters.values() if b is not None]
        if self.complex_weights:
            name = type(self).__name__
            weights = [arguments.as_complex(name, w) for w in weights]
            vectors = [arguments.as_complex(name, b) for b in vectors]
        rest = iter(vectors)
        return weights, [next(rest) if has else None for has in self._has_bias], self._activations

    def forward(self, x: Tensor) -> Tensor:
        """The logits of every branch, (Q', N, C), of x (N, I, Q); of complex ones the readout."""
        logits = torch.ops.spectral.spectral_mlp(x, self.transform.matrix_as(x), *self.network())
        return self._read(logits) if self.is_complex else logits

    def _read(self, logits: Tensor) -> Tensor:
        return logits.abs() if self.readout == "abs" else logits.real.contiguous()

    def loss(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Each branch's own mean cross-entropy, (Q',), and the logits, (Q', N, C): the fused training step.

        `loss(x, target)[0].sum().backward()` gives every branch the gradient of its own loss and of no other's.

        Args: x (N, I, Q); target (N,) int64, class indices in [0, C).
        """
        if self.readout == "abs":
            logits = self(x)
            return ensemble.branch_cross_entropy(logits, target), logits
        matrix = self.transform.matrix_as(x)
        losses, logits = torch.ops.spectral.spectral_mlp_cross_entropy(x, matrix, *self.network(), target)
        return losses, self._read(logits) if self.is_complex else logits

    def predict(self, x: Tensor, weights: Tensor, space: str = "probabilities") -> Tensor:
        """The ensemble's output (N, C): transform, branches, softmax and weighted sum in one kernel (eq. 18).

        Args:
            x: (N, I, Q). weights: (Q',), see `spectral_ops.ensemble`.
            space: "probabilities" (the output is a distribution) or "logits".
        """
        weights = weights.to(x.dtype.to_real())
        if self.readout == "abs":
            return torch.ops.spectral.branch_ensemble(self(x), weights, space)
        return torch.ops.spectral.spectral_ensemble(x, self.transform.matrix_as(x), *self.network(), weights, space)

    def to_dense(self) -> nn.Sequential:
        """The dense network that has all branches side by side: block-diagonal matrices, the transform in the first.

        `net.to_dense()(x)` (N, C Q') has logit c of branch k at c Q' + k: its `.unflatten(1, (C, Q')).permute(2, 0, 1)`
        is `net(x)`. Of the parameters' dtype and device, computed in float64 and rounded once. Complex features are
        there as real parts, then imaginary ones, so that all matrices are real; crelu is then torch.nn.ReLU, the other
        complex activations and the modulus are modules of `spectral_ops.nn.dense`.
        """
        layers: list[nn.Module] = [nn.Flatten()]
        count = len(self._activations)
        with torch.no_grad():
            for j, (weight, bias, activation) in enumerate(zip(*self.network(), strict=True)):
                w = structured.precise(weight)
                matrix = None if j else self.transform.matrix_as(w)
                blocks = structured.block_diagonal(w, matrix)
                vector = None if bias is None else structured.precise(bias).mT.flatten()
                if self.is_complex:
                    real = j == count - 1 and self.readout == "real"
                    blocks = dense.real_form(blocks, j == 0, real)
                    vector = None if vector is None else dense.planes(vector, real)
                layers.append(structured.dense_linear(blocks, vector, weight.dtype.to_real()))
                if activation != "none":
                    layers.append(dense.activation(activation))
        return nn.Sequential(*layers, dense.Modulus()) if self.readout == "abs" else nn.Sequential(*layers)

    def operations(self) -> int:
        """Multiply-adds of real numbers for one real sample in all branches: the transform as a matrix, each weight."""
        transform = self.features[0] * self.transform.length * self.transform.branches
        ahead, _ = arguments.transform_costs(self.transform, self.is_complex)
        return ahead * transform + sum(w.numel() for w in self.weights) * (2 if self.is_complex else 1)

    def parameter_count(self) -> int:
        """Trained numbers in all branches, biases included."""
        return sum(p.numel() for p in self.parameters())

    def extra_repr(self) -> str:
        rank = "" if self.rank is None else f", rank={self.rank}"
        kind = f", complex_weights={self.complex_weights}, readout={self.readout!r}" if self.is_complex else ""
        return (
            f"{self.features}, branches={self.branches}{rank}, activation={self.activation!r}, "
            f"bias={self.bias}, output_bias={self.output_bias}{kind}"
        )
