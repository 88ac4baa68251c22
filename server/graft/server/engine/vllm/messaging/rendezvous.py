"""Where an engine's processes find each other: a file, which torch leaves behind in a process that is killed."""

from __future__ import annotations

import os
import tempfile
from uuid import uuid4


def meet_beside_sockets() -> None:
    """Let the file lie in the folder of the engine's sockets, which goes with the engine; vLLM has it among temporary
    files. May run several times in a process.
    """
    from vllm.v1.executor import multiproc_executor, uniproc_executor

    for module in (multiproc_executor, uniproc_executor):
        module.get_file_store_init_method = _file


def _file() -> str:
    folder = os.environ.get("VLLM_RPC_BASE_PATH") or tempfile.gettempdir()
    return f"file://{folder}/rendezvous-{uuid4().hex}"
