"""What compiles kernels on a GPU machine while the engine starts: Triton's launcher, and FlashInfer."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from graft.cli.diagnosis.finding import Finding

_TOOLKIT = "/usr/local/cuda"
_ASKED_FIRST = 10
"""The major compute capability on which vLLM asks for FlashInfer's attention first."""


@dataclass(frozen=True, kw_only=True)
class Compilers:
    """Facts: the C compiler, and nvcc where FlashInfer looks, where there are any; `toolkit` is another folder that
    holds nvcc; whether ninja and Python's headers are there; whether Triton's cache already holds what it made, and
    whether FlashInfer's kernels came compiled.
    """

    c: str | None
    nvcc: str | None
    toolkit: str | None = None
    has_ninja: bool = True
    has_headers: bool = True
    has_cache: bool = False
    has_kernels: bool = False


def compilers() -> Compilers:
    """Where Triton and FlashInfer look."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    on_path = None if home else shutil.which("nvcc")
    cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    return Compilers(
        c=os.environ.get("CC") or next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None),
        nvcc=on_path or shutil.which(f"{home or _TOOLKIT}/bin/nvcc"),
        toolkit=_packaged_toolkit(),
        has_ninja=shutil.which("ninja") is not None,
        has_headers=Path(sysconfig.get_path("include"), "Python.h").is_file(),
        has_cache=any(cache.glob("*/*.so")),
        has_kernels=find_spec("flashinfer_jit_cache") is not None,
    )


def _packaged_toolkit() -> str | None:
    """As the package nvidia-cuda-nvcc lays it, where FlashInfer does not look by itself."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(folder).glob("cu*/bin/nvcc"):
            return str(found.parents[1])
    return None


def findings(here: Compilers, capabilities: Collection[tuple[int, int] | None]) -> Iterator[Finding]:
    """Of a machine whose engine computes on GPUs of these compute capabilities."""
    yield _triton(here)
    yield _flashinfer(here, [one for one in capabilities if one is not None and one[0] == _ASKED_FIRST])


def _triton(here: Compilers) -> Finding:
    missing = [what for what, is_there in (("a C compiler", here.c), ("Python.h", here.has_headers)) if not is_there]
    if not missing:
        return Finding(subject="compilers", state="ok", found=f"{here.c}, Python.h")
    found = f"{' and '.join(missing)} missing: Triton compiles its launcher when the engine starts"
    remedy = "apt-get install gcc python3-dev (the headers of this very Python)"
    if here.has_cache:
        found, remedy = f"{found}; its cache holds some already", f"if a start fails: {remedy}"
    return Finding(subject="compilers", state="notice" if here.has_cache else "problem", found=found, remedy=remedy)


def _flashinfer(here: Compilers, asked_first: Sequence[tuple[int, int]]) -> Finding:
    subject = "FlashInfer"
    if here.has_kernels:
        return Finding(subject=subject, state="ok", found="its kernels are compiled (flashinfer-jit-cache)")
    missing = [what for what, is_there in (("nvcc", here.nvcc), ("ninja", here.has_ninja)) if not is_there]
    if not missing:
        return Finding(subject=subject, state="ok", found=f"compiles with {here.nvcc}")
    found = f"{' and '.join(missing)} missing, so it cannot compile"
    remedy = "none is needed: vLLM takes other kernels"
    if asked_first:
        version = "{}.{}".format(*asked_first[0])
        found = f"{found}; on compute capability {version} its attention is vLLM's first choice"
        remedy = "none is needed: the engine passes over FlashInfer and takes the next kernels that compute the base"
    home = here.toolkit or "a CUDA toolkit"
    remedy = f"{remedy}; to have it, set CUDA_HOME to {home} and put ninja on PATH"
    return Finding(subject=subject, state="notice", found=found, remedy=remedy)
