"""Everything that can be set about a server, with units, defaults and limits. Read once, by `sources`."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from graft.adapters.form import ServingForm

LogFormat = Literal["text", "json"]
ParityMode = Literal["auto", "full", "recorded", "off"]
LoraKernel = Literal["auto", "compiled", "torch", "avx512-bf16", "avx512", "avx2"]
_CHOICES: dict[str, tuple[str, ...]] = {
    "log_format": ("text", "json"),
    "lora_kernel": get_args(LoraKernel),
    "parity": get_args(ParityMode),
}
_MAX_RANK = 512


class InvalidSetting(ValueError):
    """A setting that is unknown or whose value cannot be used; the message names the setting and where it was set."""


LIMITS: dict[str, tuple[float, float]] = {
    "grpc_port": (0, 65535),
    "http_port": (0, 65535),
    "num_slots": (0, 1024),
    "num_soft_prompts": (0, 65_536),
    "max_rank": (1, _MAX_RANK),
    "max_model_tokens": (16, 10_000_000),
    "kv_cache_mib": (16, 16_777_216),
    "gpu_memory_fraction": (0.05, 1),
    "tensor_parallel_size": (1, 1024),
    "pipeline_parallel_size": (1, 1024),
    "max_step_tokens": (16, 10_000_000),
    "max_running": (1, 4096),
    "max_queued": (0, 1_000_000),
    "default_deadline_seconds": (0.1, 86_400),
    "control_deadline_seconds": (1, 86_400),
    "drain_seconds": (0, 86_400),
    "slow_reader_seconds": (1, 3600),
    "canary_interval_seconds": (0.1, 3600),
    "canary_timeout_seconds": (1, 3600),
    "max_adapter_mib": (1, 1_048_576),
    "max_base_mib": (1, 16_777_216),
    "host_adapter_mib": (1, 16_777_216),
    "max_body_mib": (1, 1024),
    "max_bodies_mib": (1, 1_048_576),
    "max_connections": (1, 1_000_000),
    "max_prompts_mib": (1, 1_048_576),
    "max_file_mib": (1, 16_777_216),
    "max_files_mib": (1, 1_073_741_824),
    "max_jobs": (1, 1_000_000),
    "worker_silence_seconds": (1, 86_400),
    "parity_tokens": (4, 4096),
    "parity_timeout_seconds": (1, 86_400),
    "python_grader_seconds": (0.1, 3600),
    "python_grader_mib": (64, 1_048_576),
    "python_grader_processes": (1, 4096),
    "python_graders_at_once": (1, 1024),
}
"""Smallest and largest value of each number."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A server's settings. Raises `InvalidSetting` where a number is outside its limits."""

    base: str = "rootstock-5m"
    """The base to serve: a name, a digest, a folder, or a model hub's organisation/name[@revision]."""
    quantization: ServingForm | None = None
    """The form in which the base is held; default: the folder's own, nf4 where its weights are plain."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    grpc_port: int = 8470
    """Port of gRPC; 0 takes a free one."""
    http_port: int = 8471
    """Port of HTTP; 0 takes a free one."""
    data_dir: Path = Path("~/.local/share/graft")
    """Folder of the catalog and of the adapters' files."""
    catalog_url: str | None = None
    """URL (SQLAlchemy) of the catalog; default: SQLite below data_dir."""
    store_url: str | None = None
    """URL (fsspec) of the adapters' files; default: below data_dir."""
    tenants_file: Path | None = None
    """JSON or YAML file of tokens and their tenants; requests bring one as a bearer token. Default: one tenant."""
    num_slots: int = 8
    """Adapters in the engine at once."""
    num_soft_prompts: int = 256
    """Soft prompts in the server's memory at once, beside the slots; 0: none are served."""
    max_rank: int = 64
    """Largest LoRA rank."""
    max_model_tokens: int | None = None
    """Context length; default: the base's own, or as much of it as the key-value cache of the first engine holds."""
    kv_cache_mib: int | None = None
    """Memory of the key-value cache; default: 1024 on a CPU, what gpu_memory_fraction leaves on each GPU."""
    gpu_memory_fraction: float = 0.9
    """Share of a GPU's memory that the engine takes; less leaves room beside it. Without effect with kv_cache_mib."""
    tensor_parallel_size: int = 1
    """GPUs over which each layer is split."""
    pipeline_parallel_size: int = 1
    """Groups of GPUs over which the layers are split."""
    max_running: int = 64
    """Requests that run at once."""
    max_step_tokens: int | None = None
    """Tokens of prompts that one step reads; default: vLLM's for servers, by the device."""
    max_queued: int = 256
    """Requests that wait for a running place."""
    default_deadline_seconds: float = 300.0
    """Deadline of a request that brings none."""
    control_deadline_seconds: float = 120.0
    """Deadline of adapter calls that bring none."""
    drain_seconds: float = 30.0
    """Time for admitted requests to end after SIGTERM."""
    slow_reader_seconds: float = 30.0
    """A caller that reads nothing for so long is let go."""
    canary_interval_seconds: float = 5.0
    """Time between one-token checks of the engine."""
    canary_timeout_seconds: float = 20.0
    """An engine silent for so long is replaced."""
    import_roots: tuple[Path, ...] = ()
    """Folders below which adapters may be imported; default: none."""
    reflection: bool = True
    """Offer gRPC reflection."""
    max_adapter_mib: int = 1024
    """Largest adapter."""
    max_base_mib: int = 65_536
    """Largest base that may be uploaded."""
    max_body_mib: int = 4
    """Largest HTTP request body."""
    max_bodies_mib: int = 256
    """Bodies of all HTTP requests under way together; as large as one at least."""
    max_connections: int = 4096
    """HTTP connections open at once."""
    max_prompts_mib: int = 64
    """Versions and labels of all prompts of one tenant."""
    max_file_mib: int = 512
    """Largest file that may be uploaded."""
    max_files_mib: int = 16_384
    """All files of one tenant."""
    max_jobs: int = 1000
    """Jobs of one tenant that have not ended."""
    worker_tenant: str | None = None
    """Tenant whose callers may work on the jobs of all; default: nobody with a tenants_file, everybody without."""
    worker_silence_seconds: float = 30.0
    """A worker that says nothing for so long stops; half as much later its job is another's."""
    host_adapter_mib: int = 512
    """Memory for adapters beside the slots, laid out so that entering a slot is one copy, in MiB."""
    lora_kernel: LoraKernel = "auto"
    """What computes adapters on CPU: compiled (or one instruction set of it), torch, or auto: compiled if it runs."""
    parity: ParityMode = "auto"
    """Compare before serving: auto (as recorded, else by peft if in time), full (peft has no limit), recorded, off."""
    parity_tokens: int = 16
    """Tokens that are run to compare a version; as many again may run without it."""
    parity_timeout_seconds: float = 90.0
    """Silence after which peft is given up that computes the reference of an adapter that brought none."""
    tool_call_parser: str | None = None
    """vLLM's parser of the calls that the base writes; default: its family's by the chat template, else hermes."""
    reasoning_parser: str | None = None
    """vLLM's parser of the reasoning that the base writes, or none; default: its family's by the chat template."""
    python_graders: bool = False
    """Run tenants' Python as graders, each script in a sandbox of bubblewrap's; refused where that does not hold."""
    python_grader_executable: Path | None = None
    """Python that runs graders' scripts; default: the server's own, where every user can read it."""
    python_grader_seconds: float = 10.0
    """Time of one script, from its input to its answer."""
    python_grader_mib: int = 512
    """Memory of one script's processes together."""
    python_grader_processes: int = 16
    """Processes and threads of one script."""
    python_graders_at_once: int = 2
    """Scripts that run at once; others wait."""
    log_format: LogFormat = "text"
    """Text, or json with one object per line."""

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InvalidSetting(f"{name} is {value}, but must lie between {low:.15g} and {high:.15g}")
        for name, words in _CHOICES.items():
            if getattr(self, name) not in words:
                allowed = f"{', '.join(words[:-1])} or {words[-1]}"
                raise InvalidSetting(f"{name} is {getattr(self, name)!r}, but must be {allowed}")
        if self.max_bodies_mib < self.max_body_mib:
            problem = f"max_bodies_mib is {self.max_bodies_mib}, less than one body may have"
            raise InvalidSetting(f"{problem} (max_body_mib is {self.max_body_mib})")
        if self.grpc_port == self.http_port != 0:
            raise InvalidSetting(f"grpc_port and http_port are both {self.grpc_port}: each needs its own")

    @property
    def data_path(self) -> Path:
        """`data_dir`, absolute."""
        return self.data_dir.expanduser().absolute()


_FIELDS = {one.name: one for one in fields(Settings)}
NAMES = tuple(_FIELDS)


def describe(name: str) -> str:
    """Help on one setting: what stands below its field, and its default."""
    one = _FIELDS[name]
    default = "" if one.default is None or one.default == () else f" (default {one.default})"
    return f"{_help()[name]}{default}"


@cache
def _help() -> dict[str, str]:
    (settings,) = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body
    assert isinstance(settings, ast.ClassDef)
    found = {}
    for field, text in pairwise(settings.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = str(text.value.value).removesuffix(".")
    return found
