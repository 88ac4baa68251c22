"""Compiles `kernel.cpp` for this very processor, once per machine: the library is kept and found again."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-fPIC")
_SECONDS = 120.0


class BuildFailed(Exception):
    """There is no library, and why."""


def build(cache: Path | None = None) -> Path:
    """The library's path; compiles where this machine has none yet (about a second).

    `cache` defaults to the user's cache folder. Raises `BuildFailed` where there is no compiler, or it fails.
    """
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise BuildFailed(f"no C++ compiler was found ({', '.join(_COMPILERS)}): install one, for example g++")
    source = resources.files(__package__).joinpath("kernel.cpp").read_bytes()
    folder = _cache_folder() if cache is None else cache
    library = folder / f"kernel-{_key(compiler, source)}.so"
    if not library.is_file():
        _compile(compiler, source, library)
    return library


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "graft" / "lora_cpu"
    except RuntimeError as error:
        raise BuildFailed(f"there is no place to keep the kernel: {error} Set XDG_CACHE_HOME") from error


def _key(compiler: str, source: bytes) -> str:
    """Source, flags, compiler and processor: a home folder may be shared by machines that differ."""
    digest = hashlib.sha256(source)
    for part in (*_FLAGS, _output(compiler, "--version"), platform.machine(), _processor()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _output(compiler: str, *arguments: str) -> str:
    try:
        done = subprocess.run([compiler, *arguments], capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{compiler} cannot be run: {error}") from error
    if done.returncode:
        raise BuildFailed(f"{compiler} {' '.join(arguments)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _compile(compiler: str, source: bytes, library: Path) -> None:
    """Compile beside the library's place and rename, so that nobody loads half a file."""
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as name:
            folder = Path(name)
            (folder / "kernel.cpp").write_bytes(source)
            _output(compiler, *_FLAGS, "-c", str(folder / "kernel.cpp"), "-o", str(folder / "kernel.o"))
            # Linked without -fopenmp: the OpenMP runtime that torch has loaded is the one to use, a second one
            # would bring a second set of threads.
            _output(compiler, "-shared", str(folder / "kernel.o"), "-o", str(folder / "kernel.so"))
            (folder / "kernel.so").replace(library)
    except OSError as error:
        raise BuildFailed(f"the kernel cannot be kept in {library.parent}: {error}") from error
