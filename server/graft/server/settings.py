"""Everything that can be set about a server, with units, defaults and limits. Read once, by `settings_sources`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from graft.adapters.form import ServingForm

LogFormat = Literal["text", "json"]
_MAX_RANK = 512


class InvalidSetting(ValueError):
    """A setting that is unknown or whose value cannot be used; the message names the setting and where it was set."""


def _setting(default: Any, help_text: str, *, limits: tuple[float, float] | None = None) -> Any:
    return field(default=default, metadata={"help": help_text, "limits": limits})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A server's settings. Raises `InvalidSetting` where a number is outside its limits."""

    base: str = _setting("rootstock-5m", "the base to serve: a registered name, a digest, a folder or a model hub id")
    quantization: ServingForm = _setting(ServingForm.NF4, "the form in which the base is held")
    host: str = _setting("127.0.0.1", "address to listen on")
    grpc_port: int = _setting(8470, "gRPC port; 0 takes a free one", limits=(0, 65535))
    http_port: int = _setting(8471, "HTTP port; 0 takes a free one", limits=(0, 65535))
    data_dir: Path = _setting(Path("~/.local/share/graft"), "folder of the catalog and of the adapters' files")
    catalog_url: str | None = _setting(None, "SQLAlchemy URL of the catalog; default: SQLite below data_dir")
    store_url: str | None = _setting(None, "fsspec URL of the adapters' files; default: below data_dir")
    num_slots: int = _setting(8, "adapters in the engine at once", limits=(1, 1024))
    max_rank: int = _setting(64, "largest LoRA rank", limits=(1, _MAX_RANK))
    max_model_tokens: int | None = _setting(None, "context length; default: the base's own", limits=(16, 10_000_000))
    kv_cache_mib: int = _setting(1024, "memory of the key-value cache", limits=(16, 16_777_216))
    max_running: int = _setting(64, "requests that run at once", limits=(1, 4096))
    max_queued: int = _setting(256, "requests that wait for a running place", limits=(0, 1_000_000))
    default_deadline_seconds: float = _setting(300.0, "deadline of a request that brings none", limits=(0.1, 86_400))
    control_deadline_seconds: float = _setting(120.0, "deadline of adapter calls that bring none", limits=(1, 86_400))
    drain_seconds: float = _setting(30.0, "time for admitted requests to end after SIGTERM", limits=(0, 86_400))
    slow_reader_seconds: float = _setting(30.0, "a caller that reads nothing for so long is let go", limits=(1, 3600))
    canary_interval_seconds: float = _setting(5.0, "time between one-token checks of the engine", limits=(0.1, 3600))
    canary_timeout_seconds: float = _setting(20.0, "an engine silent for so long is replaced", limits=(1, 3600))
    import_roots: tuple[Path, ...] = _setting((), "folders below which adapters may be imported; default: none")
    reflection: bool = _setting(True, "offer gRPC reflection")
    max_adapter_mib: int = _setting(1024, "largest adapter", limits=(1, 1_048_576))
    max_body_mib: int = _setting(4, "largest HTTP request body", limits=(1, 1024))
    log_format: LogFormat = _setting("text", "text, or json with one object per line")

    def __post_init__(self) -> None:
        for one in fields(self):
            limits, value = one.metadata["limits"], getattr(self, one.name)
            if limits is not None and value is not None and not limits[0] <= value <= limits[1]:
                raise InvalidSetting(f"{one.name} is {value}, but must lie between {limits[0]:g} and {limits[1]:g}")
        if self.log_format not in ("text", "json"):
            raise InvalidSetting(f"log_format is {self.log_format!r}, but must be text or json")
        if self.grpc_port == self.http_port != 0:
            raise InvalidSetting(f"grpc_port and http_port are both {self.grpc_port}: each needs its own")

    @property
    def data_path(self) -> Path:
        return self.data_dir.expanduser().absolute()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that is not empty")
    return value


def _integer(value: object) -> int:
    if isinstance(value, str):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number")
    return float(value)


def _boolean(value: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("must be true or false")


def _folders(value: object) -> tuple[Path, ...]:
    parts = value.split(":") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("must be a list of folders")
    return tuple(Path(_text(part)).expanduser().absolute() for part in parts)


def _form(value: object) -> ServingForm:
    try:
        return ServingForm(_text(value).lower())
    except ValueError:
        raise ValueError(f"must be one of {', '.join(ServingForm)}") from None


_PARSERS: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "str | None": _text,
    "int": _integer,
    "int | None": _integer,
    "float": _number,
    "bool": _boolean,
    "Path": lambda value: Path(_text(value)),
    "tuple[Path, ...]": _folders,
    "ServingForm": _form,
    "LogFormat": _text,
}

_FIELDS = {one.name: one for one in fields(Settings)}
NAMES = tuple(_FIELDS)


def parse(name: str, value: object, *, source: str) -> Any:
    """The value of setting `name` as its type. Raises `InvalidSetting`; `source` says where the value was set."""
    try:
        return _PARSERS[str(_FIELDS[name].type)](value)
    except ValueError as error:
        raise InvalidSetting(f"{name} = {value!r} ({source}): {error}") from None


def describe(name: str) -> str:
    """Help on one setting, with its default."""
    one = _FIELDS[name]
    default = "" if one.default is None or one.default == () else f" (default {one.default})"
    return f"{one.metadata['help']}{default}"
