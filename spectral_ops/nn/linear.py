"""One tube layer: SpectralLinear (activation among the branches) and TNNLinear (activation among the samples)."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from ..ops import activations
from ..transforms import Transform
from . import arguments, dense, structured

_Layer = TypeVar("_Layer", bound="_TubeLinear")


class _TubeLinear(nn.Module):
    """Transform, one matrix per branch, inverse transform; the activation stands before or after the inverse.

    is_complex: the branches are; real_result: what comes out is real, because they are not, or because the transform
    is half a spectrum.
    """

    _acts_on_branches = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        branches: int,
        transform: Transform | None,
        bias: bool,
        activation: str | None,
        rank: int | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        complex_weights: bool | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_features = arguments.size(name, "in_features", in_features)
        self.out_features = arguments.size(name, "out_features", out_features)
        self.branches = arguments.size(name, "branches", branches)
        self.rank = None if rank is None else arguments.size(name, "rank", rank)
        self.transform = arguments.transform(name, transform, branches)
        self.complex_weights = arguments.complex_weights(name, complex_weights, self.transform, dtype)
        self.is_complex = self.complex_weights or not self.transform.is_real
        self.real_result = not self.is_complex or self.transform.is_half
        acts_on_complex = self.is_complex if self._acts_on_branches else not self.real_result
        self.activation = arguments.activation(name, activation, acts_on_complex)
        pair = [2] if self.complex_weights else []

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(self.transform.branches, *shape, *pair, device=device, dtype=dtype))

        if self.rank is None:
            self.weight = parameter(out_features, in_features)
        else:
            self.weight_in = parameter(self.rank, in_features)
            self.weight_out = parameter(out_features, self.rank)
        self.register_parameter("bias", parameter(out_features) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random weights that keep the variance of the features; zero bias."""
        if self.rank is None:
            arguments.fill(self.weight, self.in_features, self.activation, self.complex_weights)
        else:
            arguments.fill_low_rank(self.weight_in, self.weight_out, self.activation, self.complex_weights)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def operations(self) -> int:
        """Multiply-adds of real numbers for one real sample: transform, weights and inverse, each as a matrix."""
        q, q_out = self.transform.length, self.transform.branches
        weights = [self.weight] if self.rank is None else [self.weight_in, self.weight_out]
        ahead, back = arguments.transform_costs(self.transform, self.is_complex)
        tubes = (ahead * self.in_features + back * self.out_features) * q * q_out
        return tubes + sum(w.numel() for w in weights) * (2 if self.is_complex else 1)

    def _numbers(self, parameter: Tensor | None) -> Tensor | None:
        """A parameter as the ops take it."""
        if parameter is None or not self.complex_weights:
            return parameter
        return arguments.as_complex(type(self).__name__, parameter)

    def _compute(self, x: Tensor, activation: str, output_activation: str) -> Tensor:
        matrix, inverse = self.transform.matrix_as(x), self.transform.inverse_as(x)
        ops, bias = torch.ops.spectral, self._numbers(self.bias)
        # of one or two branches the op cannot tell half a spectrum from the whole one
        take_real = self.is_complex and self.real_result and self.transform.branches == self.transform.length
        if self.rank is None:
            last = "none" if take_real else output_activation
            y = ops.spectral_linear(x, matrix, self._numbers(self.weight), bias, activation, inverse, last)
            if not take_real:
                return y
        else:
            weights = [self._numbers(self.weight_in), self._numbers(self.weight_out)]
            branches = ops.spectral_mlp(x, matrix, weights, [None, bias], ["none", activation])
            y = ops.from_branches(branches, inverse)
        return activations.apply(output_activation, y.real.contiguous() if take_real else y)

    @classmethod
    def _nearest(
        cls: type[_Layer],
        linear: nn.Linear,
        branches: int,
        transform: Transform | None,
        rank: int | None,
        activation: str | None,
    ) -> _Layer:
        op = f"{cls.__name__}.from_dense"
        transform = arguments.transform(op, transform, arguments.size(op, "branches", branches))
        i, o = structured.block_sizes(op, linear, branches)
        if rank is not None:
            structured.check_rank(op, arguments.size(op, "rank", rank), min(i, o))
        dtype, has_bias = linear.weight.dtype, linear.bias is not None
        layer = cls(i, o, branches, transform, has_bias, activation, rank, "meta", dtype, None)
        with torch.no_grad():
            dense = linear.weight.double()
            blocks = structured.blocks_of(dense, transform)
            if rank is None:
                values = {"weight": blocks}
            else:
                values = dict(zip(("weight_in", "weight_out"), structured.low_rank(blocks, rank), strict=True))
            if has_bias:
                matrix = transform.matrix_as(dense)
                values["bias"] = matrix @ linear.bias.double().view(o, branches).mT.to(matrix.dtype)
            for name, value in values.items():
                setattr(layer, name, structured.parameter(value, dtype))
        return layer

    def _dense(self) -> nn.Linear:
        """The matrix and the bias of this layer without its activation, in the original domain."""
        q, has_bias = self.transform.length, self.bias is not None
        dense = nn.Linear(self.in_features * q, self.out_features * q, has_bias, device="meta")
        with torch.no_grad():
            named = [("weight",) if self.rank is None else ("weight_out", "weight_in"), ("bias",) * has_bias]
            weights, biases = [[structured.exact(getattr(self, n), self.complex_weights) for n in ns] for ns in named]
            blocks = weights[0] if self.rank is None else weights[0] @ weights[1]
            dtype = next(self.parameters()).dtype
            dense.weight = structured.rounded(structured.matrix_of(blocks, self.transform), dtype)
            if has_bias:
                tubes = structured.tubes_of(biases[0], self.transform)
                dense.bias = structured.rounded(tubes.mT.flatten(), dtype)
        return dense

    def relative_error(self, linear: nn.Linear) -> float:
        """||D - W||_F / ||W||_F, of this layer's matrix D from a dense layer's W; of W = 0, ||D||_F.

        After `from_dense` its square is the fraction of W's energy that no layer of this kind can hold.

        Raises: ValueError for a dense layer of other sizes, and for an activation among the branches, TypeError for
            anything else.
        """
        op = f"{type(self).__name__}.relative_error"
        if self._acts_on_branches:
            structured.check_none(op, self.activation)
        dense = self._dense()
        structured.check_sizes(op, linear, dense.in_features, dense.out_features)
        return structured.distance(dense.weight, linear.weight)

    def extra_repr(self) -> str:
        rank = "" if self.rank is None else f", rank={self.rank}"
        kind = f", complex_weights={self.complex_weights}" if self.is_complex else ""
        return (
            f"{self.in_features}, {self.out_features}, branches={self.branches}, bias={self.bias is not None}, "
            f"activation={self.activation!r}{rank}{kind}"
        )


class SpectralLinear(_TubeLinear):
    """y = L^-1(act(W_q L(x)_q + b_q)): a fully connected layer whose activation acts in the spectral domain.

    x (N, I, Q) -> y (N, O, Q), one fused kernel. Each branch q has a matrix of its own; that is the t-product of x with
    a weight tensor, so the layer stands for an IQ x OQ matrix with Q times fewer parameters.

    Args:
        in_features: I. out_features: O.
        branches: Q, the length of the tubes.
        transform: the map along the tubes, a `spectral_ops.transforms.Transform` of length Q; default DCT(Q).
        bias: add b (Q', O), in the spectral domain.
        activation: none, relu, gelu, silu, tanh or sigmoid; of complex branches none, crelu, modrelu, modrelu:B, zrelu
            or cardioid.
        rank: the tubal rank R: W_q = C_q D_q (eq. 13). None: full.
        complex_weights: whether W and b are complex; default: where the transform is. The branches are complex where
            either is (eq. 11 has complex weights under any transform). y is then complex too, but real under half a
            spectrum (`transform.is_half`): y = Re(L^-1(...)).

    Parameters:
        weight (Q', O, I); with a rank instead weight_in (Q', R, I), D of the paper, and weight_out (Q', O, R), C.
        bias (Q', O), zero at first. Complex ones are kept as pairs of real numbers, (..., 2).
        The weights start uniform, with He's variance for a branch's own fan-in I and for the activation; that of
        modrelu is for features of size 1.

    Raises: ValueError for sizes, names and a transform of another length; TypeError for the wrong type.
    Accuracy, gradient: those of `torch.ops.spectral.spectral_linear`.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (8), (10), (13).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        branches: int,
        transform: Transform | None = None,
        bias: bool = True,
        activation: str = "none",
        rank: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        complex_weights: bool | None = None,
    ) -> None:
        super().__init__(
            in_features, out_features, branches, transform, bias, activation, rank, device, dtype, complex_weights
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, Q) -> (N, O, Q)."""
        return self._compute(x, self.activation, "none")

    @classmethod
    def from_dense(
        cls, linear: nn.Linear, branches: int, transform: Transform | None = None, rank: int | None = None
    ) -> SpectralLinear:
        """The layer without activation whose matrix is nearest to that of a dense layer, in the Frobenius norm.

        Features are those of x (N, I, Q) flattened: `linear(x.flatten(1))` becomes `layer(x).flatten(1)`. The nearest
        matrix D is the least-squares fit of sum_k inverse[:, k] matrix[k, :] W_k[o, i] to each Q x Q block (o, i); for
        an orthogonal transform W_k[o, i] is entry (k, k) of the transformed block matrix D_oi matrix^T. The fit is
        exact for every invertible transform. `relative_error(linear)` says how far away the layer is.

        With a rank R each W_k is replaced by its best approximation of rank R. Where the rows of the transform are
        orthogonal (a DCT-II of any norm) that is the nearest matrix of tubal rank R too; under another transform
        it is the best in that transform's own norm (`spectral_ops.tnorm`), and another may be nearer.

        Args:
            linear: of IQ -> OQ features, real. branches: Q. transform: of length Q, default DCT(Q); not copied. Under a
                complex one weights are complex; under half a spectrum, DFT(Q, real=True), results stay real.
            rank: at most min(I, O), or None: full.

        Returns: a layer I -> O of `linear`'s dtype and device; its bias (Q, O), the transform of `linear`'s, is exact.
        Raises: ValueError where Q does not divide the sizes, for sizes, the rank, and a transform of another length;
            TypeError for the wrong type.
        Accuracy: computed in float64, rounded once.
        """
        return cls._nearest(linear, branches, transform, rank, "none")

    def to_dense(self) -> nn.Linear | nn.Sequential:
        """The dense layer equal to this one: `layer(x).flatten(1)` = `layer.to_dense()(x.flatten(1))`.

        Its matrix (OQ, IQ) is D[(o, p), (i, q)] = sum_k inverse[p, k] W_k[o, i] matrix[k, q], with feature i Q + q
        being x[:, i, q]; under a transform that diagonalises circulant matrices it is block-circulant.

        Returns: without an activation torch.nn.Linear(IQ, OQ) of the parameters' dtype and device, computed in float64
            and rounded once; complex, and for complex x, where the results of this layer are complex.
            With one, which no matrix can hold, three modules: a dense layer into the branches, feature o Q' + k being o
            of branch k, the activation, and the inverse transform as a dense layer. Complex features are there as real
            parts, then imaginary ones, and x is real.
        """
        if self.activation == "none":
            return self._dense()
        with torch.no_grad():
            names = ("weight",) if self.rank is None else ("weight_out", "weight_in")
            factors = [structured.exact(getattr(self, name), self.complex_weights) for name in names]
            blocks = factors[0] if self.rank is None else factors[0] @ factors[1]
            into = structured.block_diagonal(blocks, self.transform.matrix_as(blocks))
            back = torch.block_diag(*[self.transform.inverse_as(blocks)] * self.out_features)
            bias = None
            if self.bias is not None:
                bias = structured.exact(self.bias, self.complex_weights).mT.flatten()
            if self.is_complex:
                into = dense.real_form(structured.precise(into), real_in=True)
                back = dense.real_form(structured.precise(back), real_out=self.real_result)
                bias = None if bias is None else dense.planes(bias)
            dtype = next(self.parameters()).dtype
            return nn.Sequential(
                structured.dense_linear(into, bias, dtype),
                dense.activation(self.activation),
                structured.dense_linear(back, None, dtype),
            )


class TNNLinear(_TubeLinear):
    """y = act(W • x + b): the tensor neural network's layer, with its activation in the original domain.

    x (N, I, Q) -> y (N, O, Q), one fused kernel. Arguments, parameters and errors as in `SpectralLinear`. The bias is
    kept in the spectral domain; that is the paper's bias tensor transformed, and trains the same. The activation is one
    for what comes out, which is complex only under a whole complex spectrum or with complex weights; default: relu, or
    crelu of complex results.

    Because the activation mixes the branches, the transforms between two such layers do not cancel.

    Source: Newman et al. 2018, Stable Tensor Neural Networks for Rapid Deep Learning, X_j = act(W * X_(j-1) + B).
    """

    _acts_on_branches = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        branches: int,
        transform: Transform | None = None,
        bias: bool = True,
        activation: str | None = None,
        rank: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        complex_weights: bool | None = None,
    ) -> None:
        super().__init__(
            in_features, out_features, branches, transform, bias, activation, rank, device, dtype, complex_weights
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, Q) -> (N, O, Q)."""
        return self._compute(x, "none", self.activation)

    @classmethod
    def from_dense(
        cls,
        linear: nn.Linear,
        branches: int,
        transform: Transform | None = None,
        rank: int | None = None,
        activation: str | None = None,
    ) -> TNNLinear:
        """The layer whose matrix is nearest to that of a dense layer, as `SpectralLinear.from_dense` finds it.

        activation: behind it; None: relu, or crelu of complex results.
        """
        return cls._nearest(linear, branches, transform, rank, activation)

    def to_dense(self) -> nn.Sequential:
        """The dense layer, then the activation: `layer(x).flatten(1)` = `layer.to_dense()(x.flatten(1))`.

        The matrix is that of `SpectralLinear.to_dense`. Complex results are there as real parts, then imaginary ones,
        and x is real.
        """
        linear = self._dense()
        with torch.no_grad():
            if linear.weight.is_complex():
                bias = None if linear.bias is None else dense.planes(linear.bias)
                weight = dense.real_form(linear.weight, real_in=True)
                linear = structured.dense_linear(weight, bias, next(self.parameters()).dtype)
        return nn.Sequential(linear, *([] if self.activation == "none" else [dense.activation(self.activation)]))
