"""The command `spectral`: doctor, demo, train, explain, plot."""

from __future__ import annotations

import argparse
import ast
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import doctor, explain
from .table import TABLE

if TYPE_CHECKING:
    from .recipes.training import Settings

EXPERIMENTS = ("rnn-mnist", "conv-mnist", "mlp-mnist")
GENERATED = ("csg-mnist", "csg-cifar10")
LOW_RANK = ("tucker-mnist", "tucker-cifar10", "tdlrt-lenet5", "tdlrt-mnist", "tdlrt-cifar10", "tucker-footprint")
# options of some of these recipes only: the name of run()'s argument, and which
_SWEEPS = ("tdlrt-mnist", "tdlrt-cifar10")
_OWN = {
    "tau": ("taus", ("tdlrt-lenet5", *_SWEEPS)), "rates": ("rates", ("tdlrt-lenet5",)),
    "kappa": ("kappas", _SWEEPS), "share": ("shares", _SWEEPS), "methods": ("methods", _SWEEPS),
    "rounds": ("rounds", _SWEEPS), "network": ("network", ("tucker-cifar10", "tdlrt-cifar10")),
    "images": ("images", ("tucker-footprint",)),
}  # fmt: skip
_TRANSFORMS = ("dct", "dst", "dft", "dft-whole", "hadamard", "haar", "identity")  # recipes/spectra.py has them


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status. A user's mistake is one line on stderr, with exit status 1."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except ModuleNotFoundError as error:
        raise SystemExit(f"spectral: {error}; pip install 'spectral-ops[demo]' brings what the recipes need") from error
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"spectral: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spectral", description="Structured neural layers at the speed they promise.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("doctor", help="what is installed, and which kernel each op takes")
    command.set_defaults(run=_doctor)

    command = commands.add_parser("demo", help="train the networks of paper 1 on MNIST, time them, write a report")
    _training_arguments(command)
    command.add_argument("--quick", action="store_true", help="fewer epochs and shorter timing: under 90 seconds")
    command.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="the report's folder (default %(default)s)"
    )
    command.set_defaults(run=_demo)

    command = commands.add_parser(
        "train", help="run a recipe: fc-mnist trains one network of the demo, the others compare a spectral network "
        "with its dense twin, or a ResNet with its CSG versions, and write a report",
    )  # fmt: skip
    command.add_argument("recipe", choices=["fc-mnist", *EXPERIMENTS, *GENERATED, *LOW_RANK])
    command.add_argument("--model", choices=["dense", "tnn", "spectral", "spectral-r8"], help="fc-mnist: which network")
    command.add_argument("--transform", choices=_TRANSFORMS, help="the others: across the branches (default dct)")
    command.add_argument("--quick", action="store_true", help="the others: fewer epochs and shorter timing")
    command.add_argument("--out", type=Path, help="the others: the report's folder (default runs/RECIPE)")
    command.add_argument("--save", type=Path, help="write the (spectral) network's state_dict here, as safetensors")
    command.add_argument("--seeds", type=int, default=1, help="tucker-*, tdlrt-*: how many, for mean and std")
    numbers: dict[str, Any] = {"type": _numbers, "metavar": "X[,X...]"}
    command.add_argument("--tau", **numbers, help="tdlrt-*: relative tolerances of the rounding")
    command.add_argument("--kappa", **numbers, help="tdlrt-mnist, -cifar10: fixed ranks, as shares of the largest")
    command.add_argument("--share", **numbers, help="tdlrt-mnist, -cifar10: of the weights that pruning keeps")
    command.add_argument("--rates", **numbers, help="tdlrt-lenet5: learning rates, each for all arms")
    command.add_argument("--rounds", type=int, help="tdlrt-mnist, -cifar10: of iterative magnitude pruning (default 5)")
    command.add_argument(
        "--methods", type=lambda text: text.split(";"), metavar="NAME[;NAME...]",
        help="tdlrt-mnist, -cifar10: which to train (default all): TDLRT; matrix DLRT; Tucker; matrix; matrix, random "
        "start; CP; SNIP; magnitude; GraSP",
    )  # fmt: skip
    command.add_argument(
        "--network", help="tdlrt-cifar10: vgg16, alexnet, resnet18; tucker-cifar10: vgg19, densenet40, resnet56"
    )
    command.add_argument("--images", type=int, help="tucker-footprint: how many are classified (default 120,000)")
    _training_arguments(command)
    command.set_defaults(run=_train)

    command = commands.add_parser("explain", help="which kernel an op takes for given shapes, and why not the others")
    command.add_argument("op", choices=sorted(TABLE))
    command.add_argument(
        "arguments", nargs="*", help="a shape such as 64,28,28 (28, for one dimension) or a value such as relu or 2"
    )
    command.set_defaults(run=_explain)

    command = commands.add_parser("plot", help="draw what is worth seeing; transforms: their basis vectors")
    command.add_argument("what", choices=["transforms"])
    command.add_argument("--out", type=Path, default=Path("transforms.png"), help="the file (default %(default)s)")
    command.set_defaults(run=_plot)
    return parser


def _training_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-dir",
        type=Path,
        help="a folder with the IDX files of MNIST (60,000 + 10,000 images), or CIFAR-10's batches",
    )
    command.add_argument("--epochs", type=int, help="passes over the training data")
    command.add_argument(
        "--lr", type=float, help="Adam's learning rate (default: the recipe's; for paper 1's networks its own, 0.01)"
    )
    command.add_argument("--batch-size", type=int, help="default: the recipe's, mostly the paper's 64")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--threads", type=int, help="CPU threads (default: torch's)")


def _settings(
    args: argparse.Namespace, quick: bool, lr: float | None = None, epochs: int | None = None, batch: int | None = None
) -> Settings:
    """What the command line says, with defaults from the recipe."""
    from .recipes.experiment import QUICK_EPOCHS
    from .recipes.training import Settings

    for name in ("epochs", "batch_size", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise SystemExit(f"spectral: --{name.replace('_', '-')} must be at least 1, got {value}")
    if args.lr is not None and not args.lr > 0:
        raise SystemExit(f"spectral: --lr must be above 0, got {args.lr}")
    if args.threads:
        torch.set_num_threads(args.threads)
    chosen = args.epochs or (QUICK_EPOCHS if quick else epochs or Settings.epochs)
    return Settings(chosen, args.batch_size or batch or Settings.batch_size, args.lr or lr or Settings.lr, args.seed)


def _doctor(args: argparse.Namespace) -> int:
    print(doctor.report())
    return 0


def _demo(args: argparse.Namespace) -> int:
    from .recipes import demo

    demo.run(_settings(args, args.quick), args.data_dir, args.out, args.quick)
    return 0


def _train(args: argparse.Namespace) -> int:
    if args.recipe in EXPERIMENTS:
        return _compare(args)
    if args.recipe in LOW_RANK:
        return _low_rank(args)
    if args.recipe in GENERATED:
        return _generated(args)
    for option in ("transform", "quick", "out"):
        if getattr(args, option):
            raise SystemExit(f"spectral: --{option} is not an option of fc-mnist")
    from .recipes import data, training

    settings = _settings(args, quick=False)
    mnist = data.load(args.data_dir, settings.seed)

    def show(step: int, steps: int, loss: float) -> None:
        if step % max(steps // 20, 1) == 0:
            print(f"step {step:6d} of {steps}  loss {loss:.4f}", flush=True)

    run = training.train(args.model or "spectral", mnist, settings, show)
    for rule, accuracy in run.accuracy.items():
        print(f"{rule:12} {100 * accuracy:.2f} %")
    if run.lr_note:
        print(run.lr_note)
    if args.save:
        _save(run.net, args.save)
    return 0


def _compare(args: argparse.Namespace) -> int:
    if args.model:
        raise SystemExit(f"spectral: --model is not an option of {args.recipe}")
    from .recipes import experiment

    module = importlib.import_module(f"spectral_ops.recipes.{args.recipe.replace('-', '_')}")
    chosen = module.experiment(args.transform or "dct")
    settings = _settings(args, args.quick, chosen.lr, chosen.epochs)
    out = args.out or Path("runs") / args.recipe
    _, runs = experiment.run(chosen, settings, args.data_dir, out, args.quick)
    if args.save:
        _save(runs[-1].net, args.save)
    return 0


def _generated(args: argparse.Namespace) -> int:
    for option in ("model", "transform", "save"):
        if getattr(args, option):
            raise SystemExit(f"spectral: --{option} is not an option of {args.recipe}")
    from .recipes import generated

    module = importlib.import_module(f"spectral_ops.recipes.{args.recipe.replace('-', '_')}")
    plan = module.PLAN
    settings = _settings(args, args.quick, plan.lr, plan.epochs, plan.batch_size)
    images = module.images(args.data_dir, settings.seed)
    generated.run(plan, images, settings, args.out or Path("runs") / args.recipe, args.quick)
    return 0


def _low_rank(args: argparse.Namespace) -> int:
    for option in ("model", "transform", "save"):
        if getattr(args, option):
            raise SystemExit(f"spectral: --{option} is not an option of {args.recipe}")
    if args.seeds < 1:
        raise SystemExit(f"spectral: --seeds must be at least 1, got {args.seeds}")
    _settings(args, args.quick)  # which checks the numbers, and sets the threads
    module = importlib.import_module(f"spectral_ops.recipes.{args.recipe.replace('-', '_')}")
    out = args.out or Path("runs") / args.recipe
    options = {name: getattr(args, name) for name in ("lr", "epochs", "batch_size")}
    for option, (name, recipes) in _OWN.items():
        value = getattr(args, option)
        if value is not None and args.recipe not in recipes:
            raise SystemExit(f"spectral: --{option} is not an option of {args.recipe}")
        options[name] = value
    given = {name: value for name, value in options.items() if value is not None}
    if args.recipe == "tucker-footprint":
        module.run(out, args.images, args.quick)
        return 0
    data: Any = args.data_dir
    if args.recipe.endswith("cifar10"):
        from .recipes import csg_cifar10

        data = csg_cifar10.images(args.data_dir, args.seed)
    module.run(data, out, args.seeds, quick=args.quick, **given)
    return 0


def _numbers(text: str) -> list[float]:
    """Numbers separated by commas."""
    return [float(part) for part in text.split(",")]


def _save(net: torch.nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: t.contiguous() for name, t in net.state_dict().items()}, path)


def _explain(args: argparse.Namespace) -> int:
    if not args.arguments:
        rows = doctor.facts()["ops"][args.op]["cpu"]
        print(f"{args.op}, small float32 tensors on the CPU")
        print("\n".join(f"   {name}: {'can take them' if reason is None else reason}" for name, reason in rows))
        return 0
    print(explain(args.op, *map(_argument, args.arguments)))
    return 0


def _plot(args: argparse.Namespace) -> int:
    from .recipes import bases

    bases.draw(args.out)
    print(args.out)
    return 0


def _argument(text: str) -> Any:
    """A tensor from a shape ("64,28,28", and "28," for one dimension), a Python literal, or else the text itself."""
    sizes = text.removesuffix(",").split(",")
    if "," in text and all(size.strip().isdigit() for size in sizes):
        return torch.empty([int(size) for size in sizes])
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
