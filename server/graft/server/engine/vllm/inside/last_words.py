"""Why an engine's process did not start, told to the server: vLLM leaves it to the log, among pages of tracebacks.

The process writes it into the folder of the engine's sockets, which is the engine's alone.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
from pathlib import Path

_FILE, _FOLDER = "why", "VLLM_RPC_BASE_PATH"
_SAID = "failed to start"
_MAX_CHARACTERS = 600
# What vLLM advises, by the names that the settings have here.
_NAMES = {"gpu_memory_utilization": "gpu_memory_fraction", "max_model_len": "max_model_tokens"}


class _Listener(logging.Handler):
    """Keeps the first error of a start: a worker's, before that of the process that waits for it."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _SAID in str(record.msg):
            with contextlib.suppress(OSError), (Path(os.environ[_FOLDER]) / _FILE).open("x", encoding="utf-8") as file:
                file.write(str(error) or type(error).__name__)


def tell_why() -> None:
    """In an engine's process. Does nothing in others, and nothing a second time."""
    logger = logging.getLogger("vllm")
    is_engines = multiprocessing.parent_process() is not None and _FOLDER in os.environ
    if is_engines and not any(isinstance(one, _Listener) for one in logger.handlers):
        logger.addHandler(_Listener(level=logging.ERROR))


def told_why(folder: Path) -> str:
    """In the server: what an engine whose sockets are in `folder` said, or the empty string."""
    try:
        said = (folder / _FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    for theirs, ours in _NAMES.items():
        said = said.replace(theirs, ours)
    return " ".join(said.split())[:_MAX_CHARACTERS]
