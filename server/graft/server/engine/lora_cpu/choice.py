"""Which kernel this process uses: decided once by whoever starts the engine, and handed down by the environment."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from graft.server.engine.lora_cpu.build import BuildFailed, build
from graft.server.engine.lora_cpu.compiled import CompiledKernel
from graft.server.engine.lora_cpu.grouped import GroupedKernel
from graft.server.engine.lora_cpu.kernel import Kernel

_log = logging.getLogger(__name__)

VARIABLE = "GRAFT_LORA_LIBRARY"
"""Names the compiled library for the engine's processes; empty or unset means torch."""


def prepare(kernel: str) -> None:
    """Choose for the processes that are started from here; compiles where that is needed.

    `kernel` is `compiled`, `torch`, or `auto`: compiled if possible. Raises `BuildFailed`.
    """
    library = ""
    if kernel != "torch":
        try:
            library = str(build())
            CompiledKernel(Path(library))  # loads here, or would not in the engine either
        except (BuildFailed, OSError) as error:
            if kernel == "compiled":
                raise BuildFailed(f"the compiled LoRA kernel cannot be used: {error}") from error
            library = ""
            _log.warning("adapters run on torch's slower kernel: %s", error)
    os.environ[VARIABLE] = library


def chosen_kernel() -> Kernel:
    """The kernel of this process. Raises `OSError` where the library cannot be loaded."""
    library = os.environ.get(VARIABLE)
    return CompiledKernel(Path(library)) if library else GroupedKernel()
