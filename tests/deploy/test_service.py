"""The systemd unit: one that systemd takes, that drains, and that has no rights to speak of."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from graft.server.settings.settings import Settings
from graft.training.commands import worker

DEPLOY = Path(__file__).parents[2] / "deploy"
MAX_EXPOSURE = {"": 2.0, "python-graders": 2.7}
"""Of `systemd-analyze security`, from 0 to 10; a unit that says nothing has 9.6. Namespaces for scripts cost 0.6."""


def unit(folder: Path, name: str = "graft", *, drop_ins: Sequence[str] = ()) -> Path:
    """A unit with a program that is there, as `verify` wants it."""
    text = (DEPLOY / f"{name}.service").read_text()
    path = folder / f"{name}.service"
    path.write_text(text.replace("/opt/graft/bin/graft", sys.executable))
    (folder / f"{name}.service.d").mkdir()
    for one in drop_ins:
        shutil.copy(DEPLOY / f"graft-{one}.conf", folder / f"{name}.service.d/{one}.conf")
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("drop_ins", [(), ("gpu",), ("python-graders",), ("gpu", "python-graders")], ids="+".join)
def test_systemd_takes_the_unit(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    done = analyze("verify", str(unit(tmp_path, drop_ins=drop_ins)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("drop_ins", [(), ("python-graders",)], ids="+".join)
def test_the_unit_exposes_little(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    done = analyze("security", "--offline=true", "--no-pager", str(unit(tmp_path, drop_ins=drop_ins)))
    found = re.search(r"Overall exposure level for graft.service: ([\d.]+)", done.stdout)
    assert found and float(found[1]) <= MAX_EXPOSURE["+".join(drop_ins)], done.stdout + done.stderr


def test_the_gpus_files_are_made_before_the_service_begins_where_they_can_be() -> None:
    """As root (`+`), since a unit without rights can make none; no failure (`-`) stands in a start's way. systemd reads
    the names of device groups when the unit begins (systemd.resource-control(5)): the modules must be there by then.
    """
    text = (DEPLOY / "graft-gpu.conf").read_text()
    commands = re.findall(r"^ExecStartPre=(.*)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["-+/usr/bin/nvidia-modprobe", "-+/usr/bin/nvidia-smi"]
    assert all(line.split()[1] == "rwm" for line in re.findall(r"^DeviceAllow=(.*)$", text, re.MULTILINE))
    for relation in ("Wants", "After"):
        assert f"\n{relation}=modprobe@nvidia_uvm.service\n" in text


def test_systemd_waits_until_the_server_has_drained() -> None:
    text = (DEPLOY / "graft.service").read_text()
    found = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert found and int(found[1]) >= Settings().drain_seconds + 5
    assert "\nType=notify\n" in text and "\nKillMode=mixed\n" in text


@pytest.mark.parametrize("drop_ins", [(), ("gpu",)], ids="+".join)
def test_systemd_takes_the_workers_unit(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    done = analyze("verify", str(unit(tmp_path, "graft-worker", drop_ins=drop_ins)))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_workers_unit_has_no_more_rights_than_the_servers() -> None:
    """All but where its files are: what trains reads users' rows."""
    own, servers = (
        (DEPLOY / f"{name}.service").read_text().partition("DynamicUser=yes")[2].replace(f"={name}\n", "=\n")
        for name in ("graft-worker", "graft")
    )
    assert own == servers and "NoNewPrivileges=yes" in own


def test_the_workers_commands_are_its_own() -> None:
    """Of unit and compose.yaml: flags that `graft worker` has, and a token from a file."""
    parser = argparse.ArgumentParser()
    worker.configure(parser)
    text = (DEPLOY / "graft-worker.service").read_text()
    (line,) = re.findall(r"^ExecStart=/opt/graft/bin/graft worker (.*)$", text, re.MULTILINE)
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["worker"]["command"]
    assert composed[0] == "worker"
    for said in (line.split(), composed[1:]):
        asked = parser.parse_args(said)
        assert asked.server.endswith(":8470") and asked.yield_to.endswith(":8471/metrics")
    assert "\nEnvironmentFile=-/etc/graft/worker.env\n" in text
