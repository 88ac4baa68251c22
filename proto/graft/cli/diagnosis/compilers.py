"""What compiles kernels on a GPU machine while the engine starts: Triton's launcher, and FlashInfer."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from graft.cli.diagnosis.finding import Finding


@dataclass(frozen=True, kw_only=True)
class Compilers:
    """Facts: the C compiler and nvcc, where there are any; whether Python's headers are; and whether Triton's cache
    already holds what it made.
    """

    c: str | None
    nvcc: str | None
    has_headers: bool
    has_cache: bool


def compilers() -> Compilers:
    """Where Triton and FlashInfer look."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin") or _nvcc_package()
    cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    return Compilers(
        c=os.environ.get("CC") or next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None),
        nvcc=nvcc,
        has_headers=Path(sysconfig.get_path("include"), "Python.h").is_file(),
        has_cache=any(cache.glob("*/*.so")),
    )


def _nvcc_package() -> str | None:
    """As the package nvidia-cuda-nvcc lays it."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(folder).glob("cu*/bin/nvcc"):
            return str(found)
    return None


def findings(here: Compilers) -> Iterator[Finding]:
    """Of a machine whose engine computes on a GPU."""
    missing = [what for what, is_there in (("a C compiler", here.c), ("Python.h", here.has_headers)) if not is_there]
    if missing:
        found = f"{' and '.join(missing)} missing: Triton compiles its launcher when the engine starts"
        remedy = "apt-get install gcc python3-dev (the headers of this very Python)"
        if here.has_cache:
            found, remedy = f"{found}; its cache holds some already", f"if a start fails: {remedy}"
        yield Finding(subject="compilers", state="notice" if here.has_cache else "problem", found=found, remedy=remedy)
    else:
        yield Finding(subject="compilers", state="ok", found=f"{here.c}, Python.h")
    if here.nvcc is None:
        remedy = "none is needed: vLLM's own kernels are taken; with CUDA's toolkit FlashInfer's could be"
        yield Finding(subject="nvcc", state="notice", found="not here, so FlashInfer cannot compile", remedy=remedy)
    else:
        yield Finding(subject="nvcc", state="ok", found=here.nvcc)
