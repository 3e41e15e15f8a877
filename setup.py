"""Runs CMake for the native libraries. Without the tools for them the package installs all the same, as pure Python,
and `spectral doctor` says what is missing: the reasons are kept in spectral_ops/_build_facts.json."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def tool(name: str) -> str | None:
    """A program, at first beside this interpreter: pip called by its path has not got the environment's bin on PATH."""
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(places))


class CMakeBuild(build_ext):
    """All native libraries at once; the Extension below only tells setuptools that there is something to compile."""

    def run(self) -> None:
        editable = bool(self.inplace or getattr(self, "editable_mode", False))
        package = ROOT / "spectral_ops" if editable else Path(self.build_lib).resolve() / "spectral_ops"
        package.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            # A checkout keeps build/ for quick rebuilds; a wheel starts afresh, free of an earlier environment.
            self.build(ROOT / "build" if editable else Path(scratch), package, strict=editable)

    def build(self, folder: Path, package: Path, strict: bool) -> None:
        """Configures, builds and installs into `package`. strict: a kernel that does not compile is an error."""
        cmake, ninja = tool("cmake"), tool("ninja")
        configure = [cmake or "cmake", "-S", ROOT, "-B", folder, f"-DSPECTRAL_PYTHON={sys.executable}"]
        configure += [f"-DSPECTRAL_WERROR={'ON' if strict else 'OFF'}"]
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        reason = "cmake was not found when the package was installed"
        if cmake is not None:
            # --fresh: a build folder left by another generator, or copied from elsewhere, is taken over
            reason = self.attempt(configure) and self.attempt([*configure, "--fresh"])
        if reason:
            facts = {"missing": dict.fromkeys(("libspectral_cpu", "libspectral_cuda", "_host"), reason)}
        else:
            facts = json.loads((folder / "_build_facts.json").read_text())
            for name, missing in facts["missing"].items():
                if missing:
                    continue
                failed = self.attempt([cmake, "--build", folder, "--target", name, "--parallel"])
                # nvcc may not fit the compiler, which is no fault of the kernels: never an error
                if failed and strict and name != "libspectral_cuda":
                    raise SystemExit(failed)
                facts["missing"][name] = failed
            self.attempt([cmake, "--install", folder, "--prefix", package])
        facts["editable"] = strict
        (package / "_build_facts.json").write_text(json.dumps(facts, indent=2) + "\n")
        for name, missing in facts["missing"].items():
            for old in package.glob(f"{name}*.so") if missing else ():
                old.unlink()  # of an earlier build
            print(f"spectral_ops: {name}: {'not built: ' + missing if missing else 'built'}", flush=True)

    @staticmethod
    def attempt(command: list) -> str:
        """Runs a command; returns nothing when it succeeds, else its name and the first error that it printed."""
        print("+", *command, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        print(done.stdout, flush=True)
        if done.returncode == 0:
            return ""
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        first = next((i for i, line in enumerate(lines) if re.search(r"\b(error|fatal)\b", line, re.I)), -5)
        return f"cmake {command[1]} failed: " + " / ".join(lines[first:][:5])[:500]

    def get_outputs(self) -> list:
        return []

    def get_output_mapping(self) -> dict:
        return {}


setup(
    packages=[*find_packages(include=["spectral_ops", "spectral_ops.*"]), "spectral_ops.triton_kernels"],
    # The bare name triton_kernels belongs to another project.
    package_dir={"spectral_ops.triton_kernels": "triton_kernels"},
    ext_modules=[Extension("spectral_ops.native_libraries", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
