"""The Kubernetes objects of `deploy/kubernetes`, as kustomize makes them, and what is wrong with them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("cpu", "gpu", "kuberay")
VERSION = "1.35"
"""Of the Kubernetes API."""
_RAY_JOB = Path(__file__).with_name("ray_job.schema.json")

Manifest = dict[str, Any]


def kustomize() -> list[str] | None:
    """The command that builds an overlay; None where there is none. Older kubectl (1.20) knows no `patches`."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def built(overlay: str) -> list[Manifest]:
    """The objects of an overlay. Raises `CalledProcessError`, whose stderr says why it cannot be built."""
    command = kustomize()
    assert command is not None, "install kubectl 1.21 or newer, or kustomize"
    folder = KUBERNETES / "overlays" / overlay
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def problems(manifest: Manifest) -> Iterator[str]:
    """What the API of Kubernetes, or KubeRay's documented fields, do not take. Needs `kubernetes-validate`."""
    import kubernetes_validate

    name = f"{manifest.get('kind')} {manifest.get('metadata', {}).get('name')}"
    objects = [manifest]
    if manifest["kind"] == "RayJob":
        schema = json.loads(_RAY_JOB.read_text(encoding="utf-8"))
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
            yield f"{name}: {error.json_path}: {error.message}"
        objects = [{"apiVersion": "v1", "kind": "Pod", **template} for template in pod_templates(manifest)]
    for one in objects:
        try:
            kubernetes_validate.validate(one, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{name}: {error.message}"


def pod_templates(manifest: Manifest) -> Iterator[Manifest]:
    """Every pod template in an object, at whatever depth."""
    for key, value in manifest.items():
        if key in ("template", "submitterPodTemplate") and "spec" in value:
            yield value
        elif isinstance(value, dict):
            yield from pod_templates(value)
        elif isinstance(value, list):
            for one in value:
                if isinstance(one, dict):
                    yield from pod_templates(one)
