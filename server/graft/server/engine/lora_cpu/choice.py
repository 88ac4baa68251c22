"""Which kernel this process uses: decided once by whoever starts the engine, and handed down by the environment."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from graft.server.engine.lora_cpu.compiled import CompiledKernel
from graft.server.engine.lora_cpu.grouped import GroupedKernel
from graft.server.engine.lora_cpu.kernel import Kernel
from graft.server.engine.native.instruction_sets import NAMES, processor_flags, supported
from graft.server.engine.native.libraries import PREBUILT

_log = logging.getLogger(__name__)

VARIABLE = "GRAFT_LORA_LIBRARY"
"""Names the compiled library for the engine's processes; empty or unset means torch."""


class KernelUnavailable(Exception):
    """The kernel that was asked for does not run here, and why."""


def choose(kernel: str) -> Path | None:
    """The library for this processor; None is torch's kernel.

    `kernel` is an instruction set's name, `torch`, `compiled` (the best instruction set), or `auto`: compiled if
    possible. Raises `KernelUnavailable`.
    """
    if kernel == "torch":
        return None
    try:
        return _loadable(kernel)
    except KernelUnavailable as error:
        if kernel != "auto":
            raise
        _log.warning("adapters run on torch's slower kernel: %s", error)
        return None


def _loadable(kernel: str) -> Path:
    names = [each.name for each in supported()]
    if kernel in NAMES:
        names = [name for name in names if name == kernel]
    if not names:
        wanted = kernel if kernel in NAMES else f"any of {', '.join(NAMES)}"
        raise KernelUnavailable(f"the compiled LoRA kernel needs {wanted}; this processor has {_vectors()}")
    library = PREBUILT / f"lora-{names[0]}.so"
    try:
        CompiledKernel(library)  # loads here, or would not in the engine either
    except OSError as error:
        raise KernelUnavailable(f"the compiled LoRA kernel cannot be loaded: {error}") from error
    return library


def _vectors() -> str:
    return ", ".join(sorted(flag for flag in processor_flags() if flag.startswith(("avx", "amx")))) or "none of them"


def chosen_kernel() -> Kernel:
    """The kernel of this process. Raises `OSError` where the library cannot be loaded."""
    library = os.environ.get(VARIABLE)
    return CompiledKernel(Path(library)) if library else GroupedKernel()
