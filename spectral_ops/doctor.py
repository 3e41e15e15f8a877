"""What this installation has, what it has not, and why: the text of `spectral doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from . import native
from .op import backends
from .table import TABLE

_WIDTH = 100


def facts() -> dict[str, Any]:
    """Everything that `report` prints, as data.

    Returns:
        versions: of the package and of what it stands on; None where a distribution is not installed
        native: for each native library its file, why it is missing (None: it is loaded), and how it was built
        cpu: model, architecture, SIMD levels that can run, the one in use, threads
        gpus: name, compute capability and memory of each; gpu_reason: why there are none, else None
        ops: for each op and device the backends in order of preference, each with its reason (None: it can)
    """
    return {
        "versions": {name: _version(name) for name in ("spectral-ops", "torch", "numpy", "triton")}
        | {"python": platform.python_version()},
        "native": native.status(),
        "build": native.build_facts(),
        "cpu": {
            "model": _cpu_model(),
            "architecture": platform.machine(),
            "levels": list(native.cpu_levels()),
            "level": native.current_cpu_level(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "gpus": _gpus(),
        "gpu_reason": _why_no_gpu(),
        "ops": {name: {device: _backends(name, device) for device in ("cpu", "cuda")} for name in TABLE},
    }


def report() -> str:
    """The installation as plain text, at most 100 columns where paths allow it."""
    found = facts()
    versions, cpu = found["versions"], found["cpu"]
    triton = versions["triton"] or "not installed (pip install 'spectral-ops[triton]')"
    levels = ", ".join(f"{name} (in use)" if name == cpu["level"] else name for name in cpu["levels"])
    gpus = [f"{g['name']}, sm_{g['capability']}, {g['gib']:.0f} GiB" for g in found["gpus"]]
    rows = [
        ("python", f"{versions['python']}, numpy {versions['numpy']}"),
        ("torch", versions["torch"]),
        ("triton", triton),
        ("processor", f"{cpu['model']} ({cpu['architecture']})"),
        ("SIMD levels", levels or "none: without the CPU library torch's own kernels run"),
        ("threads", f"{cpu['threads']} of {cpu['cores']} cores (torch.set_num_threads)"),
        ("GPU", "; ".join(gpus) or f"none: {found['gpu_reason']}"),
    ]
    lines = [f"spectral-ops {versions['spectral-ops'] or '(not installed)'}", f"  {Path(__file__).parent}", ""]
    lines += [_line(name, text) for name, text in rows]
    return "\n".join([*lines, "", native_report(), "", *_ops_section(found["ops"])])


def native_report() -> str:
    """The part of `report` about the native libraries: loaded, or missing and why, and how they were built."""
    build, status = native.build_facts(), native.status()
    built = {
        "cpu": f"{build.get('compiler')}, SIMD levels {build.get('levels')}",
        "cuda": f"nvcc {build.get('nvcc')} in {build.get('cuda_home')}, {build.get('cuda_architectures')}",
        "host": f"{build.get('compiler')}",
    }
    labels = {"cpu": "C++ kernels", "cuda": "CUDA kernels", "host": "host module"}
    lines = ["Native libraries"]
    for name, reason in status.items():
        if reason and name == "host":
            reason = build.get("missing", {}).get("_host") or reason
        state = f"loaded ({built[name]})" if reason is None else f"missing: {reason}"
        lines.append(_line(labels[name], state))
    if build.get("levels"):
        lines.append(_line("built with", f"torch {build['torch']} (runs on {build['torch_target']} and later)"))
        lines.append(_line("", f"cmake {build['cmake']}, {build['flags']}"))
        lines.append(_line("", f"kernels {build['kernel_flags']}"))
    return "\n".join(lines)


def _ops_section(ops: dict[str, dict[str, list[tuple[str, str | None]]]]) -> list[str]:
    """A row an op with the backend that each device takes; reasons against the others are numbered, as they repeat."""
    notes: dict[str, int] = {}

    def cell(rows: list[tuple[str, str | None]]) -> str:
        taken = next((name for name, reason in rows if reason is None), "none")
        marks = [notes.setdefault(f"{name}: {reason}", len(notes) + 1) for name, reason in rows if reason is not None]
        return taken + "".join(f" [{mark}]" for mark in marks)

    width = max(len(name) for name in ops)
    lines = [f"{'Ops':<{width + 2}}  {'on the CPU':<20}  on a GPU"]
    lines += [f"  {name:<{width}}  {cell(on['cpu']):<20}  {cell(on['cuda'])}" for name, on in ops.items()]
    return lines + [f"  [{mark}] {note}" for note, mark in notes.items()]


def _line(name: str, text: str) -> str:
    """A labelled line, broken at spaces where it is longer than a screen."""
    lines = [f"  {name:<12}"]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > _WIDTH and lines[-1].strip():
            lines.append(" " * 14)
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _backends(name: str, device: str) -> list[tuple[str, str | None]]:
    """The backends of an op for small float32 arguments. Fake tensors: a GPU is asked about without one being there."""
    if name not in _SAMPLES:
        return [("unknown", "spectral_ops.doctor has no sample of its arguments")]
    with FakeTensorMode():
        try:
            return backends(name, *_SAMPLES[name](device))
        except (RuntimeError, TypeError, ValueError) as error:
            return [("unknown", str(error))]


_N, _I, _Q, _O, _C = 4, 3, 5, 2, 2  # samples, features in, branches, features out, classes
_T, _P = 2, 3  # steps, features of a state
_R = 1  # rank


def _data(device: str) -> tuple:
    return torch.zeros(_N, _I, _Q, device=device), torch.zeros(_Q, _Q, device=device)  # x, transform


def _network(device: str) -> tuple:
    return [torch.zeros(_Q, _O, _I, device=device)], [torch.zeros(_Q, _O, device=device)], ["none"]


def _target(device: str) -> torch.Tensor:
    return torch.zeros(_N, dtype=torch.int64, device=device)


def _layer(device: str) -> tuple:
    return torch.zeros(_Q, _O, _I, device=device), torch.zeros(_Q, _O, device=device), "none"


def _branches(device: str, features: int) -> torch.Tensor:
    return torch.zeros(_Q, _N, features, device=device)


def _tube(device: str) -> torch.Tensor:
    return torch.zeros(_N, _O, _Q, device=device)


def _branch_weights(device: str) -> torch.Tensor:
    return torch.zeros(_Q, device=device)


def _outputs(device: str) -> torch.Tensor:
    return torch.zeros(_N, _C, device=device)


def _tucker(device: str) -> tuple:
    x, core = torch.zeros(_N, _C, 4, 4, device=device), torch.zeros(_R, _R, 3, 3, device=device)
    return x, core, torch.zeros(_O, _R, device=device), torch.zeros(_C, _R, device=device)


def _tucker_taps(device: str) -> tuple:
    x, _, *factors = _tucker(device)
    return x, torch.zeros(1, 3, 3, _R, _R, device=device), *factors


def _convolution(device: str) -> tuple:
    return torch.zeros(_Q, _O, _I, 3, 3, device=device), torch.zeros(_Q, _O, device=device), "none"


def _rnn(device: str) -> tuple:
    sizes = ((_T, _Q, _N, _I), (_Q, _P, _I), (_Q, _P, _P), (_Q, _O, _P), (_Q, _P), (_Q, _N, _P))
    return tuple(torch.zeros(size, device=device) for size in sizes)


def _states(device: str) -> torch.Tensor:
    return torch.zeros(_T, _Q, _N, _P, device=device)


_FILTER, _SLICE = [4, 2, 3, 3], [2, 2, 3, 3]


def _image(device: str, channels: int, size: int) -> Tensor:
    return torch.zeros(_N, channels, size, size, device=device)


def _codes(device: str) -> tuple:
    return torch.zeros(2, 5, device=device), torch.zeros(36, 5, device=device)  # codes of two slices, generator


_SAMPLES: dict[str, Callable[[str], tuple]] = {
    "dct": lambda d: _data(d)[:1],
    "dct_adjoint": lambda d: _data(d)[:1],
    "dst": lambda d: _data(d)[:1],
    "dst_adjoint": lambda d: _data(d)[:1],
    "dctn": lambda d: (_data(d)[0], [1, 2]),
    "hadamard": lambda d: (torch.zeros(_N, 8, device=d),),
    "to_branches": _data,
    "from_branches": lambda d: (_branches(d, _I), _data(d)[1]),
    "branch_linear": lambda d: (_branches(d, _I), *_layer(d)),
    "branch_mlp_backward": lambda d: (_branches(d, _O), _branches(d, _I), *_network(d)),
    "spectral_linear": lambda d: (*_data(d), *_layer(d), _data(d)[1]),
    "spectral_linear_backward": lambda d: (_tube(d), _data(d)[0], _tube(d), _data(d)[1], *_layer(d), _data(d)[1]),
    "spectral_mlp": lambda d: (*_data(d), *_network(d)),
    "spectral_mlp_cross_entropy": lambda d: (*_data(d), *_network(d), _target(d)),
    "spectral_mlp_cross_entropy_with_grads": lambda d: (*_data(d), *_network(d), _target(d)),
    "branch_ensemble": lambda d: (_branches(d, _C), _branch_weights(d)),
    "branch_ensemble_backward": lambda d: (_outputs(d), _branches(d, _C), _branch_weights(d)),
    "spectral_ensemble": lambda d: (*_data(d), *_network(d), _branch_weights(d)),
    "spectral_ensemble_backward": lambda d: (_outputs(d), *_data(d), *_network(d), _branch_weights(d)),
    "mode_product": lambda d: (*_data(d), 2),
    "branch_conv2d": lambda d: (torch.zeros(_N, _Q, _I, 4, 4, device=d), *_convolution(d)),
    "branch_conv2d_backward": lambda d: (
        torch.zeros(_N, _Q, _O, 2, 2, device=d),
        torch.zeros(_N, _Q, _I, 4, 4, device=d),
        _convolution(d)[0],
    ),
    "spectral_conv2d": lambda d: (torch.zeros(_N, _Q * _I, 4, 4, device=d), _data(d)[1], *_convolution(d), _data(d)[1]),
    "tucker_conv2d": _tucker,
    "tucker_conv2d_backward": lambda d: (torch.zeros(_N, _O, 2, 2, device=d), *_tucker_taps(d)),
    "branch_rnn": _rnn,
    "branch_rnn_with_states": _rnn,
    "branch_rnn_backward": lambda d: (None, None, _states(d), *_rnn(d), _states(d)),
    "csg_kernels": lambda d: (*_codes(d), _FILTER, _SLICE),
    "csg_kernels_backward": lambda d: ([torch.zeros(_FILTER, device=d)], *_codes(d), _FILTER, _SLICE),
    "csg_kernel": lambda d: (*_codes(d), _FILTER, _SLICE),
    "csg_conv2d": lambda d: (_image(d, _FILTER[1], 4), *_codes(d), _FILTER, _SLICE),
    "csg_conv2d_backward": lambda d: (
        _image(d, _FILTER[0], 5 - _FILTER[2]),
        _image(d, _FILTER[1], 4),
        *_codes(d),
        _FILTER,
        _SLICE,
    ),
}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _gpus() -> list[dict[str, Any]]:
    if _why_no_gpu():
        return []
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": d.name, "capability": f"{d.major}{d.minor}", "gib": d.total_memory / 2**30} for d in devices]


def _why_no_gpu() -> str | None:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    return None if torch.cuda.is_available() else f"torch was built for CUDA {torch.version.cuda}, but finds no GPU"
