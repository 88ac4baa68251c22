"""What an engine is started with, and the environment that its processes must run in."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.errors import GraftError
from graft.adapters.form import ServingForm
from graft.adapters.store.session_folder import SessionFolder
from graft.server.engine.engine import EngineError
from graft.server.engine.vllm.inside import plugin

RANK_STEPS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes as `max_lora_rank`."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What the engine is started with.

    `num_slots` adapters sit in the engine at once, of rank `max_rank` at most (one of `RANK_STEPS`, rounded up); with
    0 the engine serves no adapters. Beside these it serves `soft_prompts`. `max_running` requests run in one batch,
    whose prompts are read `max_step_tokens` at a time (default: vLLM's for servers). `kv_cache_bytes` is the paged KV
    cache's (CPU: 1 GiB by default, whole GiB, rounded up; GPU: by default what `gpu_memory_fraction` of it leaves
    beside all else; with bytes the fraction is without effect), unless `num_cache_blocks` says its blocks, as vLLM
    counts them. The base is split over
    `tensor_parallel_size` times `pipeline_parallel_size` GPUs. `lora_kernel` computes adapters on CPU (see
    `lora_cpu.choice`). Beside the slots, at most `host_bytes` of adapters are kept ready in `host_folder` (default: a
    temporary one).
    """

    base_path: Path
    base_name: str
    form: ServingForm = ServingForm.NF4
    num_slots: int = 8
    max_rank: int = 64
    soft_prompts: bool = True
    max_model_tokens: int | None = None
    kv_cache_bytes: int | None = None
    num_cache_blocks: int | None = None
    gpu_memory_fraction: float = 0.9
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    max_running: int = 64
    max_step_tokens: int | None = None
    lora_kernel: str = "auto"
    host_folder: Path | None = None
    host_bytes: int = 2**29
    plugins: tuple[str, ...] = ("bitsandbytes", "graft_int8_cpu", plugin.NAME)

    @property
    def rank_step(self) -> int:
        """Raises `ValueError` where no step reaches `max_rank`."""
        for step in RANK_STEPS:
            if step >= self.max_rank:
                return step
        raise ValueError(f"max_rank {self.max_rank} is above the engine's limit {RANK_STEPS[-1]}")


def prepare_environment(settings: EngineSettings) -> None:
    """Set what vLLM reads from the environment. An inherited `VLLM_PLUGINS` could leave our plugin out."""
    os.environ["VLLM_PLUGINS"] = ",".join(settings.plugins)
    os.environ.pop("VLLM_ALLOW_RUNTIME_LORA_UPDATING", None)
    for name, value in {
        # OpenMP threads spin while they wait for each other, which is costly beside anything else on the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
    if settings.base_path.is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_SOCKETS = "VLLM_RPC_BASE_PATH"
_MAX_SOCKET_PATH, _SOCKET_NAME = 107, 37  # sun_path; a slash and a UUID


@contextlib.contextmanager
def sockets_in_a_folder() -> Iterator[SessionFolder]:
    """A folder of its own for the sockets of the engine that is started meanwhile: vLLM makes seven and removes none.

    It lies where `VLLM_RPC_BASE_PATH` says, else among temporary files, and is the caller's once the block has ended
    well; one that a killed process left is removed. Raises `EngineError`.
    """
    place = Path(os.environ.get(_SOCKETS) or tempfile.gettempdir())
    remedy = f"let {_SOCKETS} or TMPDIR name a folder that can be written and has a short path"
    try:
        root = place / f"graft-{os.getuid()}"
        _make_own(root)
        folder = SessionFolder(root)
    except (OSError, GraftError) as error:
        raise EngineError(f"there is no place for the engine's sockets in {place}: {error}; {remedy}") from None
    try:
        if len(str(folder.path)) + _SOCKET_NAME > _MAX_SOCKET_PATH:
            raise EngineError(f"the path of sockets in {place} is longer than {_MAX_SOCKET_PATH} characters; {remedy}")
        # Whatever this process starts later must not look for a folder that is gone.
        with environment({_SOCKETS: str(folder.path)}):
            yield folder
    except BaseException:
        folder.close()
        raise


def _make_own(root: Path) -> None:
    """Make the folder, unless it is there. In a folder that all may write in, another user may have made it before."""
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise OSError(f"{root} is no folder that this user alone can write in (remove it)")
