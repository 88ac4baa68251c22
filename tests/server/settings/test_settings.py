"""Settings: precedence, unknown names, wrong values; the command answers mistakes in one line."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.server.commands import serve
from graft.server.settings.settings import LIMITS, NAMES, InvalidSetting, Settings, describe
from graft.server.settings.sources import load_settings


def load(
    *, flags: dict[str, Any] | None = None, environment: dict[str, str] | None = None, config: Path | None = None
) -> Settings:
    return load_settings(flags=flags or {}, environment=environment or {}, config=config)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    return parser.parse_args(arguments)


def test_flags_go_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    config = tmp_path / "graft.toml"
    config.write_text('\ufeffnum_slots = 3\nmax_running = 3\nhost = "file"\nreflection = false\n')  # as editors save it
    environment = {"GRAFT_MAX_RUNNING": "4", "GRAFT_HOST": "environment", "PATH": "x", "GRAFT_TEST_DATA": "y"}
    settings = load(flags=vars(parsed("--host", "flag")), environment=environment, config=config)
    assert (settings.num_slots, settings.max_running, settings.host) == (3, 4, "flag")
    assert (settings.reflection, settings.max_queued) == (False, Settings().max_queued)
    assert load(environment={"GRAFT_CONFIG": str(config)}).num_slots == 3


def test_every_setting_is_a_flag_with_help() -> None:
    given = vars(parsed())
    for name in NAMES:
        assert given[name] is None
        assert describe(name).split(" (default")[0]
    assert vars(parsed("--no-reflection"))["reflection"] is False
    assert load(flags=vars(parsed("--quantization", "bf16"))).quantization is ServingForm.BF16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_slot = 3", "did you mean num_slots?"),
        ("zzzzzz = 1", "known settings"),
        ('num_slots = "many"', "num_slots"),
        ("num_slots = true", "num_slots = True"),
        ('max_rank = "abc"', "must be a whole number between 1 and"),
        ('drain_seconds = "soon"', "must be a number between 0 and 86400"),
        ("num_slots = 1.5", "num_slots"),
        ("num_slots = -1", "between 0 and 1024"),
        ("default_deadline_seconds = nan", "default_deadline_seconds"),
        ('quantization = "int3"', "nf4, llm-int8, int8, int4, bf16, fp32"),
        ("reflection = 3", "true or false"),
        ("import_roots = 3", "list of folders"),
        ('log_format = "xml"', "text or json"),
        ("grpc_port = 9\nhttp_port = 9", "each needs its own"),
        ("[server]\nnum_slots = 3", "unknown setting 'server'"),
        ("num_slots = ", "cannot read"),
        ("\x00", "cannot read"),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "graft.toml"
    config.write_text(text)
    with pytest.raises(InvalidSetting, match=said.replace("?", r"\?")):
        load(config=config)


def test_an_unknown_variable_is_named_with_the_nearest() -> None:
    with pytest.raises(InvalidSetting, match=r"GRAFT_MAX_RUNING.*max_running"):
        load(environment={"GRAFT_MAX_RUNING": "3"})
    with pytest.raises(InvalidSetting, match="GRAFT_NUM_SLOTS"):
        load(environment={"GRAFT_NUM_SLOTS": "x"})


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_numbers_keep_their_limits(name: str) -> None:
    low, high = LIMITS[name]
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidSetting, match=name):
            load(environment={f"GRAFT_{name.upper()}": str(value)})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--num-slots", "x"),
        ("--config", "missing.toml"),
        ("--base", "no-such-base"),
        ("--base", "."),
        ("--host", "256.256.256.256"),
    ],
    ids=["value", "file", "base", "folder", "host"],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ports = ("--grpc-port", "0", "--http-port", "0", "--data-dir", str(tmp_path / "data"))
    command = [sys.executable, "-m", "graft.cli.main", "serve", *ports, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("graft: error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["GRAFT_SERVER", "GRAFT_TOKEN"])
def test_what_the_command_line_reads_is_no_setting(name: str) -> None:
    assert load(environment={name: "x"}) == load(environment={})


@pytest.mark.parametrize("service", ["GRAFT", "GRAFT_HTTP", "GRAFT_GRPC", "GRAFT_METRICS_V2"])
def test_reading_5_what_kubernetes_sets_for_a_service_is_no_setting(service: str) -> None:
    """The variables of https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""
    address = "tcp://10.0.0.11:8470"
    variables = {
        "SERVICE_HOST": "10.0.0.11",
        "SERVICE_PORT": "8470",
        "SERVICE_PORT_GRPC": "8470",
        "PORT": address,
        "PORT_8470_TCP": address,
        "PORT_8470_TCP_PROTO": "tcp",
        "PORT_8470_TCP_PORT": "8470",
        "PORT_8470_TCP_ADDR": "10.0.0.11",
        "PORT_53_UDP": "udp://10.0.0.11:53",
    }
    environment = {f"{service}_{name}": value for name, value in variables.items()}
    assert load(environment=environment) == Settings()
    assert load(environment={**environment, "GRAFT_NUM_SLOTS": "3"}).num_slots == 3


@pytest.mark.parametrize("name", ["GRAFT_TYPO", "GRAFT_PORT", "GRAFT_PORTS", "GRAFT_SERVICE_HOSTS", "GRAFT_PORT_TCP"])
def test_reading_5_what_cannot_be_a_services_variable_still_fails(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"unknown setting {name} in the environment"):
        load(environment={name: "1"})


def test_reading_5_a_port_is_still_set_by_its_variable() -> None:
    assert load(environment={"GRAFT_HTTP_PORT": "9000"}).http_port == 9000
