"""Where settings come from: defaults, then a TOML file, then `GRAFT_*` in the environment, then flags."""

from __future__ import annotations

import argparse
import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.adapters.text.file import read_text
from graft.adapters.text.problems import UnreadableText
from graft.server.settings.parsing import parse
from graft.server.settings.settings import NAMES, InvalidSetting, Settings, describe

PREFIX = "GRAFT_"
CONFIG_VARIABLE = "GRAFT_CONFIG"
# Variables that belong to the command line, the client, the tests and the training portion; and what an engine that ran
# in this process, or in the one that started it, has set for its own.
_FOREIGN = frozenset(
    {CONFIG_VARIABLE, "GRAFT_ADDRESS", "GRAFT_SERVER", "GRAFT_TOKEN", "GRAFT_API_KEY", "GRAFT_LORA_LIBRARY"}
)
_FOREIGN_PREFIXES = ("GRAFT_TEST_", "GRAFT_CLIENT_", "GRAFT_DEMO_", "GRAFT_BENCH_", "GRAFT_TRAIN_")
# What Kubernetes and Docker set for a Service or link named `graft` or `graft-…`; `<NAME>_PORT` is one by its value.
_SERVICE = re.compile(
    r"GRAFT(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_SERVICE_PORT = re.compile(r"GRAFT(_\w+)?_PORT", re.ASCII)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag per setting, and `--config`. A flag that is not given leaves no trace in the namespace's settings."""
    parser.add_argument("--config", type=Path, default=None, help=f"TOML file of settings; also {CONFIG_VARIABLE}")
    group = parser.add_argument_group("settings", "each is also a key of the TOML file and a variable GRAFT_<NAME>")
    for name in NAMES:
        flag = "--" + name.replace("_", "-")
        options: dict[str, Any] = {"metavar": "VALUE"}
        if isinstance(getattr(Settings(), name), bool):
            options = {"action": argparse.BooleanOptionalAction}
        group.add_argument(flag, dest=name, default=None, help=describe(name), **options)


def load_settings(*, flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None) -> Settings:
    """Settings by precedence defaults < file < environment < flags.

    `flags` may hold other keys and None for what was not given. Raises `InvalidSetting` for an unknown name in the
    file or the environment, an unreadable file and unusable values.
    """
    values: dict[str, Any] = {}
    path = config or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    if path is not None:
        values |= {name: parse(name, value, source=str(path)) for name, value in _file(path).items()}
    for variable, value in sorted(environment.items()):
        name = None if _of_a_service(variable, value) else _setting_of(variable)
        if name is not None:
            values[name] = parse(name, value, source=variable)
    for name in NAMES:
        if flags.get(name) is not None:
            values[name] = parse(name, flags[name], source="--" + name.replace("_", "-"))
    return Settings(**values)


def _file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(read_text(path))
    except (UnreadableText, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"cannot read the settings file {path}: {error}") from None
    for name in table:
        if name not in NAMES:
            raise InvalidSetting(f"unknown setting {name!r} in {path}{_nearest(name)}")
    return table


def _of_a_service(variable: str, value: str) -> bool:
    """Whether an orchestrator set this for its Service: no setting, whoever's name it has."""
    if _SERVICE.fullmatch(variable):
        return True
    return bool(_SERVICE_PORT.fullmatch(variable) and _SERVICE_URL.match(value))


def _setting_of(variable: str) -> str | None:
    if not variable.startswith(PREFIX) or variable in _FOREIGN or variable.startswith(_FOREIGN_PREFIXES):
        return None
    name = variable.removeprefix(PREFIX).lower()
    if name not in NAMES:
        raise InvalidSetting(f"unknown setting {variable} in the environment{_nearest(name)}")
    return name


def _nearest(name: str) -> str:
    found = difflib.get_close_matches(name.lower().replace("-", "_"), NAMES, n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else f"; known settings: {', '.join(NAMES)}"
