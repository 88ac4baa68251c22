"""compose.yaml: containers without rights, secrets by file, time to drain, and files that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from graft.server.settings.sources import load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return loaded


@pytest.mark.parametrize("service", ["graft", "worker", "grafana", "prometheus"])
def test_every_container_is_restricted(service: str) -> None:
    one = compose()["services"][service]
    assert one["read_only"] is True and one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ()))


def test_what_is_mounted_is_there() -> None:
    for service in compose()["services"].values():
        for volume in service["volumes"]:
            source, _, _ = volume.partition(":")
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose()["volumes"]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_servers_variables_are_settings(name: str) -> None:
    load_settings(flags={}, environment=compose(name)["services"]["graft"]["environment"])


def test_docker_waits_until_the_server_has_drained() -> None:
    one = compose()["services"]["graft"]
    settings = load_settings(flags={}, environment=one["environment"])
    assert int(one["stop_grace_period"].removesuffix("s")) >= settings.drain_seconds + 5


def test_the_worker_comes_as_the_tenant_that_may_work_and_only_where_it_is_asked_for() -> None:
    services = compose()["services"]
    settings = load_settings(flags={}, environment=services["graft"]["environment"])
    assert settings.worker_tenant == "workers" and services["worker"]["profiles"] == ["train"]
    assert [one["path"] for one in services["worker"]["env_file"]] == ["secrets/worker.env"]
    assert services["worker"]["healthcheck"] == {"disable": True}, "the image's asks a server"
    assert services["worker"]["image"] == services["graft"]["image"]
    gpu = compose("compose.gpu.yaml")["services"]
    assert gpu["worker"]["image"] == gpu["graft"]["image"] and gpu["worker"]["deploy"] == gpu["graft"]["deploy"]


def test_secrets_are_files_that_git_does_not_take() -> None:
    loaded = compose()
    named = [secret for one in loaded["services"].values() for secret in one.get("secrets", ())]
    taken = [secret if isinstance(secret, str) else secret["source"] for secret in named]
    assert sorted(taken) == sorted(loaded["secrets"])
    assert all(secret["file"].startswith("secrets/") for secret in loaded["secrets"].values())
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().split()


def test_the_gpus_are_given_where_they_are_asked_for() -> None:
    one = compose("compose.gpu.yaml")["services"]["graft"]
    assert one["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert "NVIDIA_VISIBLE_DEVICES" not in compose()["services"]["graft"]["environment"]


@pytest.mark.parametrize(("name", "target"), [("compose.yaml", "cpu"), ("compose.gpu.yaml", "cuda")])
def test_images_are_targets_of_the_containerfile(name: str, target: str) -> None:
    one = compose(name)["services"]["graft"]
    assert one["build"]["target"] == target and one["image"] == f"graft:{target}"
    assert f" AS {target}\n" in (DEPLOY / "Containerfile").read_text()
