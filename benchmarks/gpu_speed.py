"""The measurements of `benchmarks/gpu.py`: device events, cold L2, A/A pairs, shares of measured ceilings."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

import spectral_ops
from spectral_ops.ops import activations

from . import cost
from .gpu import Report
from .tucker import gradients_of_three, three_convolutions

Call = Callable[..., Any]
SAMPLES, SECONDS = 15, 0.25  # calls of a contender that are timed, and at most so long


# ---- the clock -----------------------------------------------------------------------------------------------------
class Clock:
    """Times calls on the device with events (on the CPU with the clock of the process)."""

    def __init__(self, device: str, cold_bytes: int) -> None:
        self.device = device
        self.scratch = torch.zeros(max(cold_bytes // 4, 1), device=device)

    def seconds(self, call: Call, args: Sequence[Any]) -> float:
        """The median of some calls, each with a cold L2: what a captured graph reads, too, gives way there."""
        for _ in range(3):
            call(*args)
        self._wait()
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < SAMPLES and (len(times) < 3 or time.perf_counter() - begin < SECONDS):
            times.append(self._once(call, args))
        return statistics.median(times)

    def _once(self, call: Call, args: Sequence[Any]) -> float:
        if self.device == "cpu":
            start = time.perf_counter()
            call(*args)
            return time.perf_counter() - start
        self.scratch.sum()  # read, not written: nothing is left to be written back while the clock runs
        self._wait()  # the clock starts on an idle device, so that launches count
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call(*args)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def replay(call: Call, args: Sequence[Any]) -> Call:
    """A captured CUDA graph of call(*args)."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call(*args)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(*args)
    return lambda *_: graph.replay()


# ---- the cases -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """An op at one size, and what a user would write instead, by name."""

    name: str
    op: str
    args: list[Any]
    others: dict[str, Call] = field(default_factory=dict)


def _mlp(x: Tensor, transform: Tensor | None, weights: list, biases: list, activations: list) -> Tensor:
    h = x if transform is None else (x @ transform.mT).permute(2, 0, 1)
    for w, b, a in zip(weights, biases, activations, strict=True):
        h = torch.baddbmm(b[:, None], h, w.mT)  # cuBLAS strided batched GEMM
        h = torch.relu_(h) if a == "relu" else h
    return h


def _training(
    x: Tensor, transform: Tensor | None, weights: list, biases: list, acts: list, target: Tensor, _: bool
) -> Any:
    leaves = [t.detach().requires_grad_() for t in (*weights, *biases)]
    half = len(weights)
    logits = _mlp(x, transform, leaves[:half], leaves[half:], acts)
    loss = functional.cross_entropy(logits.flatten(0, 1), target.repeat(logits.shape[0]), reduction="sum") / len(target)
    return torch.autograd.grad(loss, leaves)


def _rnn(x: Tensor, wx: Tensor, wh: Tensor, wy: Tensor, bias: Tensor, h: Tensor, activation: str, *_: Any) -> Any:
    ys = []
    z = x @ wx.mT + bias[:, None]
    for step in z:
        h = activations.apply(activation, torch.baddbmm(step, h, wh.mT))
        ys.append(torch.bmm(h, wy.mT))
    return torch.stack(ys), h


def _fft_dct(x: Tensor, *_: Any) -> Tensor:
    """Makhoul's form on cuFFT: even samples, then odd ones reversed."""
    n = x.shape[-1]
    spectrum = torch.fft.fft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1))
    turn = torch.polar(x.new_ones(n), torch.arange(n, device=x.device, dtype=x.dtype) * (-math.pi / (2 * n)))
    return 2 * (spectrum * turn).real


def _fourier_layer(
    x: Tensor, transform: Tensor, w: Tensor, bias: Tensor | None, act: str, inverse: Tensor, *_: Any
) -> Tensor:
    """cuFFT, strided batched CGEMM, cuFFT."""
    branches = torch.fft.rfft(x, norm="ortho").permute(2, 0, 1)
    return torch.fft.irfft(torch.bmm(branches, w.mT).permute(1, 2, 0), x.shape[2], norm="ortho")


def _generated(x: Tensor, codes: Tensor, basis: Tensor, kernel: list[int], step: list[int], *_: Any) -> Tensor:
    filter = torch.ops.spectral.csg_kernel(codes, basis, kernel, step)
    return _convolved(filter, x)


def _convolved(filter: Tensor, x: Tensor, *_: Any) -> Tensor:
    return functional.conv2d(x, filter, padding=1)


def cases(device: str, dry: bool) -> Iterator[Case]:
    """The table of sizes, the small ones first."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device) * scale

    q = i = 28
    matrix = spectral_ops.transforms.DCT(q).matrix.float().to(device)
    widths = [28] * 8 + [10]
    weights = [normal(q, o, w, scale=(2 / w) ** 0.5) for w, o in itertools.pairwise(widths)]
    biases = [normal(q, o, scale=0.1) for o in widths[1:]]
    net = [weights, biases, ["relu"] * 7 + ["none"]]
    for n in (64,) if dry else (1, 64, 1024, 8192, 65536):
        x = normal(n, i, q)
        target = torch.randint(10, (n,), device=device)
        yield Case(f"spectral_mlp N={n}", "spectral_mlp", [x, matrix, *net], {"eager": _mlp})
        yield Case(
            f"training step N={n}", "spectral_mlp_cross_entropy_with_grads", [x, matrix, *net, target, False],
            {"eager": _training},
        )  # fmt: skip
        shares = torch.full((q,), 1 / q, device=device)
        yield Case(
            f"spectral_ensemble N={n}", "spectral_ensemble", [x, matrix, *net, shares, "probabilities"],
            {"eager": lambda *a: (torch.softmax(_mlp(*a[:5]), -1) * a[5][:, None, None]).sum(0)},
        )  # fmt: skip
        branches, w = normal(q, n, i), weights[0]
        gemm = {"cuBLAS strided batched GEMM": lambda x, w, *_: torch.bmm(x, w.mT)}
        yield Case(f"branch_linear N={n}", "branch_linear", [branches, w, None, "none"], gemm)
        pair = [torch.complex(branches, normal(q, n, i)), torch.complex(w, normal(*w.shape, scale=0.2))]
        cgemm = {"cuBLAS strided batched CGEMM": lambda x, w, *_: torch.bmm(x, w.mT)}
        yield Case(f"branch_linear complex N={n}", "branch_linear", [*pair, None, "none"], cgemm)
        gather = {"matmul and permute": lambda x, m: (x @ m.mT).permute(2, 0, 1).contiguous()}
        yield Case(f"to_branches N={n}", "to_branches", [x, matrix], gather)
    for n in (8,) if dry else (1, 64, 1024):
        layer = [normal(q, i, i, scale=i**-0.5) for _ in range(3)]
        args = [normal(28, q, n, i), *layer, normal(q, i), normal(q, n, i), "tanh", "none", None]
        yield Case(f"branch_rnn T=28 N={n}", "branch_rnn", args, {"eager": _rnn})
        pairs = [torch.complex(t, torch.randn_like(t)) for t in args[:6]]
        yield Case(f"branch_rnn complex T=28 N={n}", "branch_rnn", [*pairs, "crelu", "none", None], {"eager": _rnn})
    for n, rows in (
        ((32, 64), (128, 8))
        if dry
        else ((8, 1 << 22), (32, 786432), (64, 393216), (256, 65536), (1024, 16384), (4096, 4096))
    ):
        x = normal(rows, n)
        d = spectral_ops.dct(torch.eye(n)).mT.contiguous().to(device)
        forms = {"cuFFT form": _fft_dct, "GEMM": lambda x, *_, d=d: x @ d.mT}
        yield Case(f"dct n={n} rows={rows}", "dct", [x, 2, -1, "backward", False, False], forms)
        h = spectral_ops.transforms.Hadamard(n).matrix.float().to(device)
        yield Case(f"hadamard n={n} rows={rows}", "hadamard", [x, -1, True], {"GEMM": lambda x, *_, h=h: x @ h.mT})
    for n, blocks in ((8, (64, 8)),) if dry else ((8, (512, 4096)), (32, (128, 1024))):
        x = normal(*blocks, n, n)
        d = spectral_ops.dct(torch.eye(n)).mT.contiguous().to(device)
        twice = {"two GEMMs": lambda x, *_, d=d: d @ x @ d.mT}
        yield Case(f"dctn {n}x{n} of {x.shape[0] * x.shape[1]}", "dctn", [x, [2, 3]], twice)
    shapes = [(c, c, 3, 3) for c in (16, 32, 64) for _ in range(1 if dry else 18)]
    slices = sum((c // 16) ** 2 for c, *_ in shapes)
    codes, basis = normal(slices, 128), normal(2304, 128, scale=128**-0.5)
    flat = [size for shape in shapes for size in shape]
    args = [codes, basis, flat, [16, 16, 3, 3], "block", True]
    product = {"GEMM alone": lambda c, g, *_: c @ g.mT}
    yield Case("csg_kernels ResNet-56", "csg_kernels", args, product)
    for channels, size, n in ((32, 4, 1),) if dry else ((512, 7, 1), (64, 8, 16), (64, 8, 128), (16, 32, 128)):
        kernel = [channels, channels, 3, 3]
        x, own = normal(n, channels, size, size), normal((channels // 16) ** 2, 128)
        args = [x, own, basis, kernel, [16, 16, 3, 3], None, [1, 1], [1, 1], [1, 1], "block", 1]
        plain = functools.partial(_convolved, normal(*kernel, scale=0.02))
        name = f"csg_conv2d {channels} to {channels} {size}x{size} N={n}"
        yield Case(name, "csg_conv2d", args, {"generate, then cuDNN": _generated, "cuDNN alone": plain})
    args = [codes, basis, flat, [16, 16, 3, 3], "block", True]
    grads = [normal(o, kh, kw, i) for o, i, kh, kw in shapes]
    rows = normal(slices, 2304)
    both = {"GEMMs alone": lambda _, c, g, *__, r=rows: (r @ g, r.mT @ c)}
    yield Case("csg_kernels_backward ResNet-56", "csg_kernels_backward", [grads, *args, True, True], both)
    n, width = (16, 8) if dry else (4096, 64)
    fourier = spectral_ops.transforms.DFT(32, real=True)
    forward, back = (m.to(device, torch.complex64) for m in (fourier.matrix, fourier.inverse))
    w = torch.complex(normal(17, width, width), normal(17, width, width)) * width**-0.5
    args = [normal(n, width, 32), forward, w, None, "none", back, "none"]
    yield Case(
        f"spectral_linear DFT Q=32 I={width} N={n}", "spectral_linear", args, {"cuFFT and CGEMM": _fourier_layer}
    )
    # channels in and out, ranks in and out, pixels, images: the target, a deep layer of VGG19, small ranks, rank 1
    layers = ((256, 256, 64, 64, 56, 64), (512, 512, 60, 60, 8, 128), (64, 64, 8, 8, 32, 128), (64, 64, 1, 1, 32, 128))
    for c, o, r_in, r_out, image, n in ((6, 5, 2, 3, 8, 2),) if dry else layers:
        for layout in (torch.channels_last, torch.contiguous_format):
            x, grad = (normal(n, k, image, image).contiguous(memory_format=layout) for k in (c, o))
            core, u_out, u_in = normal(r_out, r_in, 3, 3, scale=0.1), normal(o, r_out), normal(c, r_in)
            name = f"{c}->{r_in}->{r_out}->{o} {image}x{image} N={n} {str(layout).removeprefix('torch.')}"
            geometry: list[Any] = [[1, 1], [1, 1], [1, 1]]
            args = [x, core, u_out, u_in, normal(o), *geometry, None, None, 1]
            yield Case(f"tucker_conv2d {name}", "tucker_conv2d", args, {"cuDNN staged": three_convolutions})
            args = [grad, x, core.permute(2, 3, 0, 1)[None].contiguous(), u_out, u_in, *geometry, True, None, None]
            staged = {"cuDNN staged": gradients_of_three}
            yield Case(f"tucker_conv2d_backward {name}", "tucker_conv2d_backward", args, staged)
    n = 64 if dry else 8192
    args = [normal(28, n, 28), torch.full((28,), 1 / 28, device=device), "probabilities"]
    mixed = {"eager": lambda z, w, *_: (torch.softmax(z, -1) * w[:, None, None]).sum(0)}
    yield Case(f"branch_ensemble N={n}", "branch_ensemble", args, mixed)


# ---- speed ---------------------------------------------------------------------------------------------------------
def _ceilings(report: Report, clock: Clock) -> tuple[float, float]:
    """Operations a second of a float32 GEMM (no tf32), and bytes a second of a copy; read and written counted."""
    size, values = (256, 1 << 16) if report.dry else (8192, 1 << 30)
    a, b = (torch.randn(size, size, device=report.device) for _ in range(2))
    gemm = 2 * size**3 / clock.seconds(torch.mm, (a, b))
    source, out = (torch.randn(values, device=report.device) for _ in range(2))
    copy = 8 * values / clock.seconds(lambda s, o: o.copy_(s), (source, out))
    report.add(ceiling="float32 GEMM", size=size, flops=gemm)
    report.add(ceiling="copy", bytes=8 * values, bytes_per_second=copy)
    for dtype in () if report.dry else (torch.bfloat16,):
        c, d = a.to(dtype), b.to(dtype)
        report.add(ceiling=f"{dtype} GEMM", size=size, flops=2 * size**3 / clock.seconds(torch.mm, (c, d)))
    if not report.dry:
        torch.backends.cuda.matmul.allow_tf32 = True
        report.add(ceiling="tf32 GEMM", size=size, flops=2 * size**3 / clock.seconds(torch.mm, (a, b)))
        torch.backends.cuda.matmul.allow_tf32 = False
    return gemm, copy


def _contenders(case: Case, dry: bool) -> Iterator[tuple[str, Call]]:
    """Ours twice, by backend; theirs; the first of theirs compiled and as a captured graph."""
    op = getattr(torch.ops.spectral, case.op)
    for backend in ("cpp", "triton"):
        with spectral_ops.use(backend):  # a cost model is not asked then, and so is measured
            reason = dict(spectral_ops.backends(case.op, *case.args)).get(backend, "no such backend")
        if reason is None:

            def ours(*args: Any, backend: str = backend) -> Any:
                with spectral_ops.use(backend):
                    return op(*args)

            yield backend, ours
            yield f"{backend} again", ours
            if not dry:
                yield f"{backend} graph", replay(ours, case.args)
    yield from case.others.items()
    first = next(iter(case.others.values()), None)
    if first is not None and not dry:
        if not case.op.endswith(("_with_grads", "_backward")):
            yield "captured graph", replay(first, case.args)
        # seconds each: for the sizes of the targets only
        if case.name in ("spectral_mlp N=64", "spectral_mlp N=65536", "branch_rnn T=28 N=64", "to_branches N=65536"):
            yield "compile", torch.compile(first, dynamic=False)


def speed(report: Report) -> None:
    """Each case beside its baselines. Small cases first; a case's rows are written when it is done."""
    cold = 1 if report.dry else 2 * torch.cuda.get_device_properties(0).L2_cache_size
    clock = Clock(report.device, cold)
    gemm, copy = _ceilings(report, clock)
    for case in cases(report.device, report.dry):
        work = cost.forward(case.op, case.args)
        # a complex multiply-add is four
        operations = work.flops * (
            4 if case.args[1] is not None and any(t.is_complex() for t in cost.tensors(case.args)) else 1
        )
        floor = max(operations / gemm, work.bytes / copy)
        times: dict[str, float] = {}
        failures: dict[str, str] = {}
        contenders = _contenders(case, report.dry)
        while True:
            name = "?"
            try:
                found = next(contenders, None)
                if found is None:
                    break
                name, call = found
                times[name] = clock.seconds(call, case.args)
            except Exception as error:
                failures[name] = f"{type(error).__name__}: {error}"[:300]
                if name == "?":  # the generator itself has ended
                    break
        row: dict[str, Any] = {"case": case.name, "op": case.op, "floor_us": floor * 1e6}
        row["bound"] = "GEMM" if operations / gemm >= work.bytes / copy else "copy"
        row["us"] = {name: seconds * 1e6 for name, seconds in times.items()}
        for backend in ("cpp", "triton"):
            if backend in times:
                row[f"{backend}_share"] = floor / times[backend]
                row[f"{backend}_noise"] = abs(times[f"{backend} again"] / times[backend] - 1)
        if failures:
            row["failures"] = failures
        report.add(**row)


# ---- tune ----------------------------------------------------------------------------------------------------------
def tune(report: Report) -> None:
    """Candidates for the rows of triton_kernels/tiles.py: other warps, stages and heights; and the crossovers."""
    report.need_gpu()
    from spectral_ops.triton_kernels import tiles

    clock = Clock("cuda", 2 * torch.cuda.get_device_properties(0).L2_cache_size)
    stands = tiles.ROWS
    for case in cases("cuda", False):
        reasons = dict(spectral_ops.backends(case.op, *case.args))
        if reasons.get("triton", "none") is not None or not case.name.endswith(("N=64", "N=65536", "rows=786432")):
            continue
        op = getattr(torch.ops.spectral, case.op)
        times: dict[str, float] = {}
        picked: dict[str, list[str]] = {}
        for label, rows in _candidates(stands):
            tiles.ROWS = rows
            try:
                with spectral_ops.use("triton"):
                    picked[label] = _picked(op, case.args)
                    times[label] = clock.seconds(op, case.args) * 1e6
            except Exception as error:  # does not compile, or takes too much shared memory
                times[label] = math.inf
                print(case.name, label, error, flush=True)
            finally:
                tiles.ROWS = stands
        with spectral_ops.use("cpp"):
            cpp = clock.seconds(op, case.args) * 1e6 if reasons.get("cpp") is None else math.inf
        best = min(times, key=times.__getitem__)
        finite = {label: us for label, us in times.items() if math.isfinite(us)}
        rows_of_best = picked.get(best, [])  # as they are to be written in tiles.py
        report.add(case=case.name, best=best, rows=rows_of_best, us=finite, cpp_us=cpp if math.isfinite(cpp) else None)


def _picked(op: Call, args: Sequence[Any]) -> list[str]:
    """The tile rows that a call of an op takes."""
    from spectral_ops.triton_kernels import tiles

    found: dict[str, None] = {}

    def pick(*sizes: Any) -> Any:
        row = plain(*sizes)
        found[repr(row)] = None
        return row

    plain = tiles.pick
    with mock.patch.object(tiles, "pick", pick):
        op(*args)
    return list(found)


def _candidates(stands: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    yield "as it stands", stands
    for warps in (4, 8):
        for stages in (1, 2, 3):
            yield f"warps={warps}, stages={stages}", tuple(r._replace(warps=warps, stages=stages) for r in stands)
    for factor in (0.5, 2):
        label = f"rows of a block x {factor:g}"
        yield label, tuple(r._replace(blocks=_taller(r.blocks, factor)) for r in stands)


def _taller(blocks: Any, factor: float) -> dict[str, int]:
    name = next((n for n in ("R", "N") if n in blocks), None)
    return {k: max(16, int(v * factor)) if k == name else v for k, v in blocks.items()}
