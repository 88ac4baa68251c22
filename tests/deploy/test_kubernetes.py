"""The overlays, built without a cluster: valid objects, and pods that are restricted, drained and never surprised."""

from __future__ import annotations

import importlib.util
import tomllib
from functools import cache
from typing import Any

import pytest
import yaml

from graft.server.settings.settings import Settings
from graft.server.settings.sources import load_settings
from graft.training.pretrain.settings import PretrainSettings
from tests.tools.deploy import manifests

SERVERS = ("cpu", "gpu")
CLOSING_SECONDS = 5
"""After the drain: README says that the server is gone by then."""

pytestmark = pytest.mark.skipif(
    manifests.kustomize() is None, reason="neither kubectl nor kustomize is installed: overlays cannot be built"
)
built = cache(manifests.built)


def one(overlay: str, kind: str, name: str = "graft") -> dict[str, Any]:
    (found,) = (each for each in built(overlay) if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pods(overlay: str) -> list[dict[str, Any]]:
    return [template["spec"] for each in built(overlay) for template in manifests.pod_templates(each)]


def settings_of(overlay: str, tmp_path: Any) -> Settings:
    (made,) = (each for each in built(overlay) if each["metadata"]["name"].startswith("graft-settings-"))
    path = tmp_path / "graft.toml"
    path.write_text(made["data"]["graft.toml"])
    return load_settings(flags={}, environment={}, config=path)


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_the_api_takes_every_object(overlay: str) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed: `make check-deploy` brings it")
    assert [problem for each in built(overlay) for problem in manifests.problems(each)] == []


def test_a_wrong_object_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate is not installed: `make check-deploy` brings it")
    job = yaml.safe_load(yaml.safe_dump(one("kuberay", "RayJob", "graft-pretrain")))
    job["spec"]["shutdownAfterFinish"] = True
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imag"] = "x"
    told = "\n".join(manifests.problems(job))
    assert "shutdownAfterFinish" in told and "imag" in told


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_every_pod_is_restricted(overlay: str) -> None:
    """As the Pod Security Standard `restricted` has it, with a read-only root and bounds beside."""
    for pod in pods(overlay):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            for bound in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][bound].keys()


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_what_a_pod_writes_to_is_a_volume(overlay: str) -> None:
    for pod in pods(overlay):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounts.values()) <= volumes
            if container["name"] != "submitter":
                assert {"/var/lib/graft", "/var/cache/graft", "/tmp", "/dev/shm"} <= mounts.keys()


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_the_images_entry_point_runs_before_whatever_uses_the_caches(overlay: str) -> None:
    """KubeRay gives containers a command of its own: there an init container is begun by it, on the same volumes."""
    for pod in pods(overlay):
        for container in pod["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            if "/var/cache/graft" not in mounts or (overlay in SERVERS and "command" not in container):
                continue
            (before,) = pod["initContainers"]
            assert before["command"] == ["/opt/graft/entrypoint", "true"] and before["image"] == container["image"]
            for mount in before["volumeMounts"]:
                assert mounts[mount["mountPath"]] == mount["name"]
            assert {"/var/cache/graft", "/tmp"} == {mount["mountPath"] for mount in before["volumeMounts"]}


@pytest.mark.parametrize("overlay", SERVERS)
def test_probes_ask_what_they_should(overlay: str) -> None:
    (container,) = one(overlay, "Deployment")["spec"]["template"]["spec"]["containers"]
    asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/livez", "readiness": "/readyz", "liveness": "/livez"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": Settings().grpc_port, "http": Settings().http_port}


@pytest.mark.parametrize("overlay", SERVERS)
def test_a_pod_is_given_the_time_that_its_server_drains(overlay: str, tmp_path: Any) -> None:
    pod = one(overlay, "Deployment")["spec"]["template"]["spec"]
    _, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    needed = int(seconds) + settings_of(overlay, tmp_path).drain_seconds + CLOSING_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= needed


@pytest.mark.parametrize("overlay", SERVERS)
def test_selectors_find_the_server_and_nothing_else(overlay: str) -> None:
    deployment = one(overlay, "Deployment")
    own = deployment["spec"]["selector"]["matchLabels"]
    assert own.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert one(overlay, "Service")["spec"]["selector"] == own
    assert one(overlay, "PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": own}
    for policy in (each for each in built(overlay) if each["kind"] == "NetworkPolicy"):
        assert policy["spec"]["podSelector"] == {"matchLabels": own}


@pytest.mark.parametrize("overlay", SERVERS)
def test_tokens_are_files_and_the_server_demands_them(overlay: str, tmp_path: Any) -> None:
    pod = one(overlay, "Deployment")["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    secrets = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    tenants = settings_of(overlay, tmp_path).tenants_file
    assert tenants is not None and secrets[mounts[str(tenants.parent)]].get("optional") is not True
    assert not [variable for variable in pod["containers"][0]["env"] if "secretKeyRef" in str(variable)]


def test_a_pod_on_cpus_computes_with_its_own_cores() -> None:
    (container,) = one("cpu", "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable for variable in container["env"]}
    assert variables["OMP_NUM_THREADS"]["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"
    assert {"GRAFT_CONFIG", "VLLM_CPU_OMP_THREADS_BIND"} <= variables.keys()


def test_the_gpu_is_asked_for_and_its_caches_outlive_the_pod() -> None:
    pod = one("gpu", "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "graft-cache"}} in pod["volumes"]


def test_the_ray_job_asks_for_the_workers_that_its_cluster_has(repository: Any) -> None:
    spec = one("kuberay", "RayJob", "graft-pretrain")["spec"]
    words = spec["entrypoint"].split()
    assert words[:2] == ["graft", "pretrain"] and "--resume" in words
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"] == worker["resources"]["requests"]
    num_gpus = worker["resources"]["limits"]["nvidia.com/gpu"]
    assert int(words[words.index("--ray") + 1]) == group["replicas"] * num_gpus
    assert num_gpus > 1, "GPUs of different pods exchange nothing by NVLink: a pod is a node with all its GPUs"
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert f"ray[train]=={spec['rayClusterSpec']['rayVersion']}" in project["optional-dependencies"]["cluster"]
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_ray_head_offers_nothing_to_workers() -> None:
    head = one("kuberay", "RayJob", "graft-pretrain")["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert {head["rayStartParams"][f"num-{kind}"] for kind in ("cpus", "gpus")} == {"0"}


def test_rays_objects_fit_into_the_pods_shared_memory() -> None:
    """Otherwise Ray keeps them on a disk."""
    cluster = one("kuberay", "RayJob", "graft-pretrain")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        limit = volumes["shared-memory"]["emptyDir"]["sizeLimit"]
        assert int(group["rayStartParams"]["object-store-memory"]) < int(limit.removesuffix("Gi")) * 2**30 / 2


def test_the_ray_jobs_settings_are_those_of_pretrain() -> None:
    (made,) = (each for each in built("kuberay") if each["metadata"]["name"].startswith("graft-pretrain-"))
    settings = PretrainSettings.from_mapping(yaml.safe_load(made["data"]["pretrain.yaml"]))
    assert settings.family == "llama" and str(settings.text[0]).startswith("/var/lib/graft/")
