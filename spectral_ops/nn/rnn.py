"""SpectralRNN: the recurrent layer of paper 1, with the interface of torch.nn.RNN."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ..ops.activations import together
from ..transforms import Identity, Transform
from . import arguments, dense, structured

_TORCHS = {"tanh": "tanh", "relu": "relu", "crelu": "relu"}  # what torch.nn.RNN has, of planes too


class SpectralRNN(nn.Module):
    """Q independent recurrent networks, each on one spectral component of a sequence of tubes.

    H_t = act(W_x X_t + W_h H_(t-1) + b) in every branch; the last layer may read Y_t = W_y H_t out of its states. A
    layer above takes the states of the one below, as in torch.nn.RNN. All steps of a layer are one kernel; because the
    activation acts in the spectral domain, nothing is transformed between steps or layers.

    Args:
        input_size: I. hidden_size: P, of the states.
        branches: Q, the length of the tubes.
        output_size: O, of what the last layer reads out; None: its output are the states themselves.
        transform: a `spectral_ops.transforms.Transform` of length Q; default DCT(Q), orthonormal.
        num_layers: how many are stacked.
        nonlinearity: none, relu, gelu, silu, tanh or sigmoid; of complex branches none, crelu, modrelu, modrelu:B,
            zrelu or cardioid. None: tanh, or modrelu of complex ones. bias: one vector b (torch's two add up to it).
        batch_first: x is (N, T, I, Q), and so is the output.
        dropout: the probability of dropping a value between layers, in training.
        bidirectional: a second network in each layer reads backward; features of both follow each other, D = 2.
        output_activation: of Y, where output_size is given.
        complex_weights: as of `SpectralLinear`: by default where the transform is. Of complex branches output and h_n
            are complex too, but under half a spectrum (`transform.is_half`) the real parts of the inverse: there h_n
            holds all of the states only where weights and biases of the frequencies 0 and Q/2 are real.

    Parameters, for layer j and direction "" or "_reverse":
        weight_x_l{j}{direction}: (Q', P, I), above the first layer (Q', P, D P). weight_h_...: (Q', P, P).
        bias_...: (Q', P), zero at first. weight_y{direction}: (Q', O, P), where output_size is given.
        Complex ones are kept as pairs of real numbers, (..., 2).
        W_x and W_h share the variance of a branch's fan-in, so that the states keep theirs from step to step.

    Shapes: x (T, N, I, Q) -> output (T, N, D O, Q), or D P without output_size, and h_n (num_layers D, N, P, Q).
        Of a PackedSequence the output is one too.
    Raises: ValueError for sizes, names and a transform of another length; TypeError for the wrong type.
    Accuracy, gradient: those of `torch.ops.spectral.branch_rnn` and the transforms.
    Source: Liu et al., Highly Parallel Deep Ensemble Learning, eq. (28)-(30).

    >>> net = SpectralRNN(28, 64, branches=3, output_size=10)
    >>> output, h_n = net(torch.rand(28, 16, 28, 3))  # 16 images of 28 rows in 3 colours, row by row
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        branches: int,
        output_size: int | None = None,
        transform: Transform | None = None,
        num_layers: int = 1,
        nonlinearity: str | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        output_activation: str = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        complex_weights: bool | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.input_size = arguments.size(name, "input_size", input_size)
        self.hidden_size = arguments.size(name, "hidden_size", hidden_size)
        self.branches = arguments.size(name, "branches", branches)
        self.output_size = None if output_size is None else arguments.size(name, "output_size", output_size)
        self.transform = arguments.transform(name, transform, branches)
        self.num_layers = arguments.size(name, "num_layers", num_layers)
        self.complex_weights = arguments.complex_weights(name, complex_weights, self.transform, dtype)
        self.is_complex = self.complex_weights or not self.transform.is_real
        chosen = nonlinearity or ("modrelu" if self.is_complex else "tanh")
        self.nonlinearity = arguments.activation(name, chosen, self.is_complex, "nonlinearity")
        self.output_activation = arguments.activation(name, output_activation, self.is_complex, "output_activation")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must be in [0, 1], got {dropout}")
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, float(dropout), bidirectional
        self._directions = ("", "_reverse") if bidirectional else ("",)
        pair = [2] if self.complex_weights else []

        def add(parameter: str, *shape: int) -> None:
            value = torch.empty(self.transform.branches, *shape, *pair, device=device, dtype=dtype)
            self.register_parameter(parameter, nn.Parameter(value))

        width = input_size
        for layer in range(num_layers):
            for direction in self._directions:
                add(f"weight_x_l{layer}{direction}", hidden_size, width)
                add(f"weight_h_l{layer}{direction}", hidden_size, hidden_size)
                if bias:
                    add(f"bias_l{layer}{direction}", hidden_size)
                if output_size is not None and layer == num_layers - 1:
                    add(f"weight_y{direction}", output_size, hidden_size)
            width = hidden_size * len(self._directions)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random weights that keep the variance of the states; zero biases."""
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("weight_y"):
                arguments.fill(parameter, self.hidden_size, self.output_activation, self.complex_weights)
            else:  # half of the variance comes from x, half from the step before
                arguments.fill(parameter, 2 * parameter.shape[2], self.nonlinearity, self.complex_weights)

    def forward(self, x: Tensor | PackedSequence, h0: Tensor | None = None) -> tuple[Tensor | PackedSequence, Tensor]:
        """The output for all steps, and the last states, in tubes.

        Args:
            x: (T, N, I, Q), or (N, T, I, Q) with batch_first, or a PackedSequence of (T, I, Q) sequences.
            h0: (num_layers D, N, P, Q); None is zero.
        """
        if isinstance(x, PackedSequence):
            padded, lengths = pad_packed_sequence(x)
            branches, states = self.in_branches(padded, h0, lengths.to(padded.device))
            output = self._tubes(branches)
            if x.sorted_indices is not None:  # the order in which they are packed
                output, lengths = output.index_select(1, x.sorted_indices), lengths[x.sorted_indices.cpu()]
            data = pack_padded_sequence(output, lengths).data
            return PackedSequence(data, x.batch_sizes, x.sorted_indices, x.unsorted_indices), self._tubes(states)
        self._check(x, h0, self.batch_first)
        branches, states = self.in_branches(x.transpose(0, 1) if self.batch_first else x, h0)
        output = self._tubes(branches)
        return output.transpose(0, 1) if self.batch_first else output, self._tubes(states)

    def in_branches(self, x: Tensor, h0: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output of every branch, (T, Q', N, D O), and the last states, (num_layers D, Q', N, P).

        What an ensemble of branches takes: y[-1] are logits (Q', N, O) for `spectral_ops.ensemble`.

        Args: x (T, N, I, Q), whatever batch_first says; h0 as in `forward`; lengths (N,) int64, steps of each sequence.
        """
        self._check(x, h0, batch_first=False)
        h = self._branches(x)
        starts = None if h0 is None else self._branches(h0)
        last = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                h = self._dropped(h)
            found = []
            for d, direction in enumerate(self._directions):
                number = layer * len(self._directions) + d
                start = h.new_zeros(*h.shape[1:3], self.hidden_size) if starts is None else starts[number]
                out, state = self._layer(h, start, layer, direction, lengths)
                found.append(out)
                last.append(state)
            h = torch.cat(found, -1) if self.bidirectional else found[0]
        return h, torch.stack(last)

    def _layer(
        self, x: Tensor, h0: Tensor, layer: int, direction: str, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One direction of one layer, in branches: what it gives to the next one, and its last state."""
        end = f"l{layer}{direction}"
        weight_x, weight_h = self._numbers(f"weight_x_{end}"), self._numbers(f"weight_h_{end}")
        bias = self._numbers(f"bias_{end}") if self.bias else None
        if direction:
            x = _reversed(x, lengths)
        if self.output_size is not None and layer == self.num_layers - 1:
            weight_y = self._numbers(f"weight_y{direction}")
            out, state = torch.ops.spectral.branch_rnn(
                x, weight_x, weight_h, weight_y, bias, h0, self.nonlinearity, self.output_activation, lengths
            )
        else:
            nothing = weight_h.new_empty(weight_h.shape[0], 0, self.hidden_size)
            _, state, out = torch.ops.spectral.branch_rnn_with_states(
                x, weight_x, weight_h, nothing, bias, h0, self.nonlinearity, "none", lengths
            )
        return _reversed(out, lengths) if direction else out, state

    def _numbers(self, name: str) -> Tensor:
        """A parameter as the ops take it."""
        parameter = getattr(self, name)
        return arguments.as_complex(type(self).__name__, parameter) if self.complex_weights else parameter

    def _dropped(self, h: Tensor) -> Tensor:
        if not h.is_complex():
            return nn.functional.dropout(h, self.dropout, self.training)
        return h * nn.functional.dropout(torch.ones_like(h.real), self.dropout, self.training)

    def _check(self, x: Tensor, h0: Tensor | None, batch_first: bool) -> None:
        name = type(self).__name__
        if x.dim() != 4 or x.shape[2] != self.input_size or x.shape[3] != self.branches:
            letters = "(N, T, I, Q)" if batch_first else "(T, N, I, Q)"
            must = f"{letters} with I = {self.input_size} and Q = {self.branches}"
            raise ValueError(f"{name}: x must be {must}, got {tuple(x.shape)}")
        samples, layers = x.shape[0 if batch_first else 1], self.num_layers * len(self._directions)
        wanted = (layers, samples, self.hidden_size, self.branches)
        if h0 is not None and h0.shape != wanted:
            raise ValueError(f"{name}: h0 must be (num_layers D, N, P, Q) = {wanted}, got {tuple(h0.shape)}")

    def _branches(self, x: Tensor) -> Tensor:
        """(T, N, I, Q) -> (T, Q', N, I)."""
        t, n, i, q = x.shape
        branches = torch.ops.spectral.to_branches(x.reshape(t * n, i, q), self.transform.matrix_as(x))
        if self.is_complex and not branches.is_complex():
            branches = branches.to(branches.dtype.to_complex())  # as the states will be
        return branches.view(-1, t, n, i).transpose(0, 1)

    def _tubes(self, h: Tensor) -> Tensor:
        """(T, Q', N, O) -> (T, N, O, Q)."""
        t, q, n, o = h.shape
        inverse = self.transform.inverse_as(h)
        x = torch.ops.spectral.from_branches(h.transpose(0, 1).reshape(q, t * n, o), inverse).view(t, n, o, -1)
        # of one or two branches the op cannot tell half a spectrum from the whole one
        return x.real.contiguous() if x.is_complex() and self.transform.is_half else x

    def to_dense(self) -> tuple[nn.RNN | dense.OneBranch, nn.Module]:
        """The dense recurrent network that has all branches in one state, and the map from it to this layer's output.

        With (rnn, out) = net.to_dense(): out(rnn(x.flatten(-2))[0]) = net(x)[0].flatten(-2). The transform is part of
        weight_ih_l0, weights are block diagonal, and feature p Q' + k of the state is p of branch k; so are those of
        the dense h_n. Complex features are there as real parts, then imaginary ones (the states of each direction by
        themselves); so is the output where this layer's is complex.
        There is no way back from any dense RNN: its activation acts in the original domain.

        Returns: torch.nn.RNN, where it has the nonlinearity (tanh, relu; crelu is relu of both parts), else
            `spectral_ops.nn.dense.OneBranch`, with its shapes; and torch.nn.Linear, with an output_activation three
            modules in a row. Of the parameters' dtype and device, computed in float64 and rounded once.
        """
        first = self.weight_x_l0
        with torch.no_grad():
            rnn = self._torchs() if self.nonlinearity in _TORCHS else self._one_branch()
            branches = self.transform.branches
            eye = torch.eye(self.hidden_size, dtype=torch.float64, device=first.device).expand(branches, -1, -1)
            names = [f"weight_y{direction}" for direction in self._directions]
            maps = [structured.block_diagonal(self._weight(n) if self.output_size else eye) for n in names]
            # (D O Q', P Q') of each direction, and (D O Q, D O Q')
            rows, count = len(maps[0]), len(maps)
            reads = [functional.pad(m, (0, 0, d * rows, (count - 1 - d) * rows)) for d, m in enumerate(maps)]
            inverse = self.transform.inverse_as(first.double())
            back = torch.block_diag(*[inverse] * (rows * count // branches))
            half, dtype = self.transform.is_half, first.dtype
            if self.output_activation == "none":
                joined = [torch.matmul(*together(back, read)) for read in reads]
                return rnn, structured.dense_linear(self._into(joined, half), None, dtype)
            return rnn, nn.Sequential(
                structured.dense_linear(self._into(reads, False), None, dtype),
                dense.activation(self.output_activation),
                structured.dense_linear(self._into([back], half), None, dtype),
            )

    def _into(self, columns: list[Tensor], real_out: bool) -> Tensor:
        """A matrix from states, given by the columns of each direction; of complex branches on planes."""
        if self.is_complex:
            columns = [dense.real_form(structured.precise(c), real_out=real_out) for c in columns]
        return torch.cat(columns, 1)

    def _weight(self, name: str) -> Tensor:
        return structured.precise(self._numbers(name))

    def _blocks(self, layer: int, end: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """The dense weights from below and from the step before, and the bias."""
        weight_x = self._weight(f"weight_x_{end}")
        into = structured.block_diagonal(weight_x, None if layer else self.transform.matrix_as(weight_x))
        bias = self._weight(f"bias_{end}").mT.flatten() if self.bias else None
        return into, structured.block_diagonal(self._weight(f"weight_h_{end}")), bias

    def _each(self) -> Iterator[tuple[int, str]]:
        for layer in range(self.num_layers):
            for direction in self._directions:
                yield layer, f"l{layer}{direction}"

    def _torchs(self) -> nn.RNN:
        first, p = self.weight_x_l0, self.transform.branches * (2 if self.is_complex else 1)
        rnn = nn.RNN(
            self.input_size * self.transform.length, self.hidden_size * p, self.num_layers, _TORCHS[self.nonlinearity],
            self.bias, self.batch_first, self.dropout, self.bidirectional, device=first.device, dtype=first.dtype,
        )  # fmt: skip
        for layer, end in self._each():
            into, again, bias = self._blocks(layer, end)
            if self.is_complex:
                below = into.chunk(len(self._directions) if layer else 1, 1)
                into = torch.cat([dense.real_form(part, layer == 0) for part in below], 1)
                again = dense.real_form(structured.precise(again))
                bias = None if bias is None else dense.planes(bias)
            getattr(rnn, f"weight_ih_{end}").copy_(into)
            getattr(rnn, f"weight_hh_{end}").copy_(again)
            if bias is not None:
                getattr(rnn, f"bias_ih_{end}").copy_(bias)
                getattr(rnn, f"bias_hh_{end}").zero_()
        return rnn.train(self.training)

    def _one_branch(self) -> dense.OneBranch:
        first, q, p = self.weight_x_l0, self.transform.length, self.transform.branches
        net = SpectralRNN(
            self.input_size * q, self.hidden_size * p, 1, None, Identity(1), self.num_layers, self.nonlinearity,
            self.bias, self.batch_first, self.dropout, self.bidirectional, device=first.device, dtype=first.dtype,
            complex_weights=self.is_complex,
        )  # fmt: skip
        for layer, end in self._each():
            for name, value in zip(("weight_x", "weight_h", "bias"), self._blocks(layer, end), strict=True):
                if value is not None:
                    number = value.to(torch.complex128) if self.is_complex else value
                    pairs = torch.view_as_real(number) if self.is_complex else number
                    getattr(net, f"{name}_{end}").copy_(pairs[None])
        return dense.OneBranch(net.train(self.training))

    def operations(self) -> int:
        """Multiply-adds of real numbers for one step of one real sample, transforms (as matrices) included."""
        weights = sum(p.numel() for n, p in self.named_parameters(recurse=False) if n.startswith("weight"))
        width = len(self._directions) * (self.output_size or self.hidden_size)
        ahead, back = arguments.transform_costs(self.transform, self.is_complex)
        tubes = (ahead * self.input_size + back * width) * self.transform.length * self.transform.branches
        return tubes + weights * (2 if self.is_complex else 1)

    def parameter_count(self) -> int:
        """Trained real numbers in all branches, biases included."""
        return sum(p.numel() for p in self.parameters())

    def extra_repr(self) -> str:
        output = "" if self.output_size is None else f", output_size={self.output_size}"
        options = "".join(
            f", {name}={getattr(self, name)!r}"
            for name, usual in (("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0),
                                ("bidirectional", False))
            if getattr(self, name) != usual
        )  # fmt: skip
        sizes = f"{self.input_size}, {self.hidden_size}, branches={self.branches}{output}"
        kind = f", complex_weights={self.complex_weights}" if self.is_complex else ""
        return f"{sizes}, nonlinearity={self.nonlinearity!r}{options}{kind}"


def _reversed(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (T, Q, N, I) backward in time; each sequence from its own end, what lies behind the end stays there."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    order = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.gather(0, order[:, None, :, None].expand_as(x))
