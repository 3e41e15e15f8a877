"""The surface of the package: one row per op.

Registration (`op.py`), the native loader (`native.py`), tests, benchmarks and `spectral doctor` all walk this table.
A schema is spelled here and nowhere else; `tests/test_contract.py` compares the C++ signatures with column `native`.
"""

from __future__ import annotations

from dataclasses import dataclass

_NETWORK = "Tensor[] weights, Tensor?[] biases, str[] activations"
_NATIVE_NETWORK = "Tensor[] weights, Tensor?[] biases, int[] activations, float[] offsets"
_TOGETHER = ("x", "transform", "weights", "biases")
_GEOMETRY = "int[2] stride=1, int[2] padding=0, int[2] dilation=1"
_NATIVE_CONVOLUTION = (
    "int activation, float offset, Tensor inverse, int[] stride, int[] padding, int[] dilation, int groups, "
    "bool channels_last"
)
_TRIGONOMETRIC = (
    "(Tensor x, int type=2, int dim=-1, str norm='backward', bool inverse=False, bool orthogonalize=False) -> Tensor"
)
_NATIVE_TRIGONOMETRIC = (
    "(Tensor x, Tensor table, int type, bool sine, int circle, float scale, float first_in, float last_in, "
    "float first_out, float last_out, int dim, Tensor(a!) out) -> ()"
)

_LAYER = "Tensor x, Tensor weight_x, Tensor weight_h, Tensor weight_y, Tensor? bias, Tensor h0"
_OPTIONS = "str activation_h='tanh', str activation_y='none', Tensor? lengths=None"
_NATIVE_OPTIONS = "int activation_h, float offset_h, int activation_y, float offset_y, Tensor? lengths"
_LAYER_TOGETHER = ("x", "weight_x", "weight_h", "weight_y", "bias", "h0")

_NATIVE_TILES = "int[] stride, int[] padding, int[] dilation, int[] tile, bool channels_last"
_CSG = "Tensor codes, Tensor generator, int[] kernel_shapes, int[4] slice_shape, str layout='block'"
_CSG_KERNEL = "Tensor codes, Tensor generator, int[4] kernel_shape, int[4] slice_shape"
_NATIVE_CSG = "Tensor codes, Tensor generator, int[] kernel_shapes, int[] slice_shape, bool flat, bool channels_last"
_NATIVE_CSG_KERNEL = "Tensor codes, Tensor generator, int[] kernel_shape, int[] slice_shape"
_NATIVE_GEOMETRY = "int[] stride, int[] padding, int[] dilation, bool flat, int groups"


@dataclass(frozen=True)
class Row:
    """One op.

    name: `torch.ops.spectral.<name>`, and the name of its rule module `spectral_ops/ops/<name>.py`.
    schema: arguments and results, in the language of torch.library.
    native: the entry point `torch.ops.spectral_native.<name>` of the C++ library: inputs, then the outputs it fills.
        None: there is none.
    backends: in order of preference; the first one without a reason against it runs.
    composed: the reference is a composition of library calls and other ops, as fast as they go: there is no CPU kernel,
        and where no GPU kernel runs autograd and torch.compile see its parts.
    complex_together: the arguments that the native kernel takes complex, all of them, where anything is: of a mixture
        the real ones are made so; x may stay real beside a transform. Empty: the kernel is for real numbers, but one
        with `stages` makes a real layer of any mixture.
    autocast: "lower": follow the autocast dtype; "float32": stay in float32; "rule": the rule module decides.
    stages: of a composed op whose native entry point does call the library, between stages of its own, and returns the
        results and what the gradient needs: the schema of that, `<name>_backward`. `cpp` takes the arguments of
        ordinary tensors, in any layout, and returns the result; all others go through the composition.
    calls: name and schema of what `csrc/cpu/<name>.cpp` has besides, for the CPU alone: what a composition calls if it
        can; or the forward pass that keeps its states for the gradient, and the gradient from them.
    """

    name: str
    schema: str
    native: str | None
    backends: tuple[str, ...] = ("cpp", "reference")
    composed: bool = False
    autocast: str = "lower"
    complex_together: tuple[str, ...] = ()
    stages: str | None = None
    calls: tuple[tuple[str, str], ...] = ()


_GPU = ("cpp", "triton", "reference")  # on a GPU Triton may come first, see `triton_backend.preferred`
_ROWS = (
    Row("dct", _TRIGONOMETRIC, _NATIVE_TRIGONOMETRIC, _GPU, autocast="float32"),
    Row("dct_adjoint", _TRIGONOMETRIC, _NATIVE_TRIGONOMETRIC, _GPU, autocast="float32"),
    Row("dst", _TRIGONOMETRIC, _NATIVE_TRIGONOMETRIC, _GPU, autocast="float32"),
    Row("dst_adjoint", _TRIGONOMETRIC, _NATIVE_TRIGONOMETRIC, _GPU, autocast="float32"),
    Row(
        "dctn",
        "(Tensor x, int[] dim, int type=2, str norm='backward', bool inverse=False, bool orthogonalize=False, "
        "bool sine=False, bool adjoint=False) -> Tensor",
        "(Tensor x, Tensor first_matrix, Tensor second_matrix, int first, int second, Tensor(a!) out) -> ()",
        _GPU,
        autocast="float32",
    ),
    Row(
        "hadamard",
        "(Tensor x, int dim=-1, bool normalized=True) -> Tensor",
        "(Tensor x, int dim, bool normalized, Tensor(a!) out) -> ()",
        _GPU,
        autocast="float32",
    ),
    Row(
        "mode_product",
        "(Tensor x, Tensor matrix, int dim) -> Tensor",
        _NATIVE_TRIGONOMETRIC,
        _GPU,
        autocast="float32",
    ),
    Row(
        "to_branches",
        "(Tensor x, Tensor transform) -> Tensor",
        "(Tensor x, Tensor transform, Tensor(a!) out) -> ()",
        _GPU,
        autocast="float32",
        complex_together=("transform",),
    ),
    Row(
        "from_branches",
        "(Tensor y, Tensor inverse) -> Tensor",
        "(Tensor y, Tensor inverse, Tensor(a!) out) -> ()",
        _GPU,
        autocast="float32",
        complex_together=("y", "inverse"),
    ),
    Row(
        "branch_linear",
        "(Tensor x, Tensor weight, Tensor? bias=None, str activation='none') -> Tensor",
        "(Tensor x, Tensor weight, Tensor? bias, int activation, float offset, Tensor(a!) out) -> ()",
        _GPU,
        complex_together=("x", "weight", "bias"),
    ),
    Row(
        "branch_mlp_backward",
        f"(Tensor grad_y, Tensor x, {_NETWORK}, bool want_grad_x=True) -> (Tensor, Tensor[], Tensor[])",
        f"(Tensor grad_y, Tensor x, {_NATIVE_NETWORK}, Tensor(a!)? grad_x, Tensor(b!)[] grad_weights, "
        "Tensor(c!)[] grad_biases) -> ()",
        _GPU,
        complex_together=("grad_y", "x", "weights", "biases"),
    ),
    Row(
        "spectral_linear",
        "(Tensor x, Tensor transform, Tensor weight, Tensor? bias, str activation, Tensor inverse, "
        "str output_activation='none') -> Tensor",
        "(Tensor x, Tensor transform, Tensor weight, Tensor? bias, int activation, float offset, Tensor inverse, "
        "int output_activation, float output_offset, Tensor(a!) out) -> ()",
        _GPU,
        autocast="rule",
        complex_together=("transform", "weight", "bias", "inverse"),
    ),
    Row(
        "spectral_linear_backward",
        "(Tensor grad_y, Tensor x, Tensor y, Tensor transform, Tensor weight, Tensor? bias, str activation, "
        "Tensor inverse, str output_activation='none', bool want_grad_x=True) -> (Tensor, Tensor, Tensor)",
        "(Tensor grad_y, Tensor x, Tensor y, Tensor transform, Tensor weight, Tensor? bias, int activation, "
        "float offset, Tensor inverse, int output_activation, Tensor(a!)? grad_x, Tensor(b!) grad_weight, "
        "Tensor(c!)? grad_bias) -> ()",
        _GPU,
        complex_together=("transform", "weight", "bias", "inverse"),
    ),
    Row(
        "spectral_mlp",
        f"(Tensor x, Tensor? transform, {_NETWORK}) -> Tensor",
        f"(Tensor x, Tensor? transform, {_NATIVE_NETWORK}, Tensor(a!) out) -> ()",
        _GPU,
        autocast="rule",
        complex_together=_TOGETHER,
        calls=(
            (
                "spectral_mlp_with_states",
                f"(Tensor x, Tensor? transform, {_NATIVE_NETWORK}, Tensor(a!) out) -> Tensor",
            ),
            (
                "spectral_mlp_from_states",
                f"(Tensor grad_y, Tensor states, {_NATIVE_NETWORK}, Tensor(a!)? grad_branches, "
                "Tensor(b!)[] grad_weights, Tensor(c!)[] grad_biases) -> ()",
            ),
        ),
    ),
    Row(
        "spectral_mlp_cross_entropy",
        f"(Tensor x, Tensor? transform, {_NETWORK}, Tensor target) -> (Tensor, Tensor)",
        f"(Tensor x, Tensor? transform, {_NATIVE_NETWORK}, Tensor target, Tensor(a!) losses, Tensor(b!) logits) -> ()",
        _GPU,
        autocast="rule",
        complex_together=_TOGETHER,
    ),
    Row(
        "spectral_mlp_cross_entropy_with_grads",
        f"(Tensor x, Tensor? transform, {_NETWORK}, Tensor target, bool want_grad_x=True) "
        "-> (Tensor, Tensor, Tensor, Tensor[], Tensor[])",
        f"(Tensor x, Tensor? transform, {_NATIVE_NETWORK}, Tensor target, Tensor(a!) losses, Tensor(b!) logits, "
        "Tensor(c!)? grad_x, Tensor(d!)[] grad_weights, Tensor(e!)[] grad_biases) -> ()",
        _GPU,
        autocast="rule",
        complex_together=_TOGETHER,
    ),
    Row(
        "branch_ensemble",
        "(Tensor logits, Tensor weights, str space='probabilities') -> Tensor",
        "(Tensor logits, Tensor weights, bool softmax, Tensor(a!) out) -> ()",
        _GPU,
        autocast="float32",
    ),
    Row(
        "branch_ensemble_backward",
        "(Tensor grad_y, Tensor logits, Tensor weights, str space='probabilities') -> (Tensor, Tensor)",
        "(Tensor grad_y, Tensor logits, Tensor weights, bool softmax, Tensor(a!) grad_logits, "
        "Tensor(b!) grad_weights) -> ()",
        _GPU,
        autocast="float32",
    ),
    Row(
        "spectral_ensemble",
        f"(Tensor x, Tensor? transform, {_NETWORK}, Tensor branch_weights, str space='probabilities') -> Tensor",
        f"(Tensor x, Tensor? transform, {_NATIVE_NETWORK}, Tensor branch_weights, bool softmax, Tensor(a!) out) -> ()",
        _GPU,
        autocast="rule",
        complex_together=_TOGETHER,
        calls=(
            (
                "spectral_ensemble_with_states",
                f"(Tensor x, Tensor? transform, {_NATIVE_NETWORK}, Tensor branch_weights, bool softmax, "
                "Tensor(a!) out) -> Tensor",
            ),
            (
                "spectral_ensemble_from_states",
                f"(Tensor grad_y, Tensor states, {_NATIVE_NETWORK}, Tensor branch_weights, bool softmax, "
                "Tensor(a!)? grad_branches, Tensor(b!)[] grad_weights, Tensor(c!)[] grad_biases, "
                "Tensor(d!) grad_branch_weights) -> ()",
            ),
        ),
    ),
    Row(
        "spectral_ensemble_backward",
        f"(Tensor grad_y, Tensor x, Tensor? transform, {_NETWORK}, Tensor branch_weights, str space='probabilities', "
        "bool want_grad_x=True) -> (Tensor, Tensor[], Tensor[], Tensor)",
        f"(Tensor grad_y, Tensor x, Tensor? transform, {_NATIVE_NETWORK}, Tensor branch_weights, bool softmax, "
        "Tensor(a!)? grad_branches, Tensor(b!)[] grad_weights, Tensor(c!)[] grad_biases, "
        "Tensor(d!) grad_branch_weights) -> ()",
        _GPU,
        autocast="rule",
        complex_together=_TOGETHER,
    ),
    Row(
        "branch_conv2d",
        f"(Tensor x, Tensor weight, Tensor? bias=None, str activation='none', {_GEOMETRY}) -> Tensor",
        None,
        ("triton", "reference"),
        composed=True,
        complex_together=("x", "weight", "bias"),
    ),
    Row(
        "branch_conv2d_backward",
        f"(Tensor grad_y, Tensor x, Tensor weight, {_GEOMETRY}, bool want_grad_x=True, bool want_grad_weight=True) "
        "-> (Tensor, Tensor)",
        None,
        ("triton", "reference"),
        composed=True,
        complex_together=("grad_y", "x", "weight"),
    ),
    Row(
        "spectral_conv2d",
        "(Tensor x, Tensor transform, Tensor weight, Tensor? bias, str activation, Tensor inverse, "
        f"{_GEOMETRY}) -> Tensor",
        f"(Tensor x, Tensor transform, Tensor weight, Tensor? bias, {_NATIVE_CONVOLUTION}) -> (Tensor, Tensor, Tensor)",
        composed=True,
        autocast="rule",
        stages="(Tensor grad, Tensor v, Tensor z, Tensor transform, Tensor weight, bool want_x, bool want_weight, "
        f"bool want_bias, {_NATIVE_CONVOLUTION}) -> (Tensor, Tensor, Tensor)",
    ),
    Row(
        "tucker_conv2d",
        f"(Tensor x, Tensor core, Tensor u_out, Tensor u_in, Tensor? bias=None, {_GEOMETRY}, Tensor? u_h=None, "
        "Tensor? u_w=None, int groups=1) -> Tensor",
        f"(Tensor x, Tensor core, Tensor u_out, Tensor u_in, Tensor? bias, {_NATIVE_TILES}, Tensor(a!) out) -> ()",
        _GPU,
        composed=True,
        calls=(
            (
                "tucker_stages",
                "(Tensor x, Tensor weight, Tensor? u_in, Tensor? u_out, Tensor? bias, int[] stride, int[] padding, "
                "int[] dilation, bool channels_last) -> (Tensor, Tensor, Tensor)",
            ),
            (
                "tucker_stages_backward",
                "(Tensor grad, Tensor x, Tensor weight, Tensor? u_in, Tensor? u_out, Tensor h, Tensor z, bool want_x, "
                "bool want_weight, bool want_in, bool want_out, bool want_bias, int[] stride, int[] padding, "
                "int[] dilation, bool channels_last) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
            ),
        ),
    ),
    Row(
        "tucker_conv2d_backward",
        f"(Tensor grad_y, Tensor x, Tensor core, Tensor u_out, Tensor u_in, {_GEOMETRY}, bool want_grad_x=True, "
        "Tensor? core_out=None, Tensor? core_in=None) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
        "(Tensor grad_y, Tensor x, Tensor core, Tensor u_out, Tensor u_in, Tensor core_out, Tensor core_in, "
        f"{_NATIVE_TILES}, Tensor(a!)? grad_x, Tensor(b!) grad_core, Tensor(c!) grad_u_out, Tensor(d!) grad_u_in, "
        "Tensor(e!) grad_bias) -> ()",
        _GPU,
        composed=True,
    ),
    Row(
        "branch_rnn",
        f"({_LAYER}, {_OPTIONS}) -> (Tensor, Tensor)",
        f"({_LAYER}, {_NATIVE_OPTIONS}, Tensor(a!) out, Tensor(b!) h) -> ()",
        _GPU,
        complex_together=_LAYER_TOGETHER,
    ),
    Row(
        "branch_rnn_with_states",
        f"({_LAYER}, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
        f"({_LAYER}, {_NATIVE_OPTIONS}, Tensor(a!) out, Tensor(b!) h, Tensor(c!) states) -> ()",
        _GPU,
        complex_together=_LAYER_TOGETHER,
    ),
    Row(
        "branch_rnn_backward",
        f"(Tensor? grad_y, Tensor? grad_h, Tensor? grad_states, {_LAYER}, Tensor states, {_OPTIONS}, "
        "bool want_grad_x=True) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
        f"(Tensor? grad_y, Tensor? grad_h, Tensor? grad_states, {_LAYER}, Tensor states, {_NATIVE_OPTIONS}, "
        "Tensor(a!)? grad_x, Tensor(b!) grad_weight_x, Tensor(c!) grad_weight_h, Tensor(d!) grad_weight_y, "
        "Tensor(e!)? grad_bias, Tensor(f!) grad_h0) -> ()",
        _GPU,
        complex_together=("grad_y", "grad_h", "grad_states", *_LAYER_TOGETHER, "states"),
    ),
    Row(
        "csg_kernels",
        f"({_CSG}, bool channels_last=False) -> Tensor[]",
        f"({_NATIVE_CSG}, Tensor(a!)[] out) -> ()",
        _GPU,
    ),
    Row(
        "csg_kernels_backward",
        f"(Tensor?[] grads, {_CSG}, bool channels_last=False, bool want_codes=True, bool want_generator=True) "
        "-> (Tensor, Tensor)",
        f"(Tensor?[] grads, {_NATIVE_CSG}, Tensor(a!)? grad_codes, Tensor(b!)? grad_generator) -> ()",
        _GPU,
    ),
    Row(
        "csg_kernel",
        f"({_CSG_KERNEL}, str layout='block', bool channels_last=False) -> Tensor",
        None,
        ("reference",),
        composed=True,
    ),
    Row(
        "csg_conv2d",
        f"(Tensor x, {_CSG_KERNEL}, Tensor? bias=None, {_GEOMETRY}, str layout='block', int groups=1) -> Tensor",
        f"(Tensor x, {_NATIVE_CSG_KERNEL}, Tensor? bias, {_NATIVE_GEOMETRY}, Tensor(a!) out) -> ()",
        _GPU,
        composed=True,
    ),
    Row(
        "csg_conv2d_backward",
        f"(Tensor grad_y, Tensor x, {_CSG_KERNEL}, {_GEOMETRY}, str layout='block', int groups=1, bool want_x=True, "
        "bool want_codes=True, bool want_generator=True) -> (Tensor, Tensor, Tensor)",
        f"(Tensor grad_y, Tensor x, {_NATIVE_CSG_KERNEL}, {_NATIVE_GEOMETRY}, Tensor(a!)? grad_x, "
        "Tensor(b!)? grad_codes, Tensor(c!)? grad_generator) -> ()",
        _GPU,
        composed=True,
    ),
)

TABLE: dict[str, Row] = {row.name: row for row in _ROWS}
