"""The Containerfile's stages: what the last ones rest on, and that their versions are the repository's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.containerfile import DEPLOY, stages, variables


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_last_stage_inherits_no_build(target: str) -> None:
    """Nothing but Python and libraries is installed below it, and what it copies are folders of Graft's own."""
    line, name = [], target
    while name in stages():
        line.append(name)
        name = stages()[name][0]
    assert line == [target, "runtime", "system"]
    installed = re.findall(r"apt-get install (.*?)&&", stages()["system"][1])
    assert len(installed) == 1
    assert not re.search(r"\b(gcc|g\+\+|clang|build-essential|make|\S+-dev|python3-pip|python3-venv)\b", installed[0])
    copied = re.findall(r"^COPY .* (\S+) (\S+)$", stages()[target][1], re.MULTILINE)
    assert copied == [("/opt/graft", "/opt/graft")]


def test_what_the_build_makes_of_caches_lies_where_the_entry_point_looks_and_below_no_volume() -> None:
    """A volume hides what an image has in its place."""
    (entrypoint,) = re.findall(r"^COPY deploy/entrypoint (\S+)$", stages()["runtime"][1], re.MULTILINE)
    seed, caches = Path(entrypoint).with_name("cache-seed"), Path(variables("runtime")["XDG_CACHE_HOME"])
    assert Path(variables("cpu-build")["XDG_CACHE_HOME"]) == seed
    triton = Path(variables("runtime")["TRITON_CACHE_DIR"]).relative_to(caches)
    assert Path(variables("cuda-build")["TRITON_CACHE_DIR"]) == seed / triton
    (volumes,) = re.findall(r"^VOLUME (.*)$", stages()["runtime"][1], re.MULTILINE)
    assert str(caches) in json.loads(volumes)
    assert not {seed, *seed.parents} & {Path(folder) for folder in json.loads(volumes)}


def test_a_container_gets_gpus_only_where_they_are_asked_for() -> None:
    """NVIDIA's runtime gives a container those that the image names, whether a pod asks for any or not."""
    assert not [name for name in stages() if "NVIDIA_VISIBLE_DEVICES" in variables(name)]


_TRITON = """#!/bin/sh
mkdir -p "$TRITON_CACHE_DIR/KEY"
echo 'int cuInit(unsigned); int begin(void) { return cuInit(0); }' > "$TRITON_CACHE_DIR/KEY/main.c"
"${CC:-gcc}" "$TRITON_CACHE_DIR/KEY/main.c" -O3 -shared -fPIC -o "$TRITON_CACHE_DIR/KEY/cuda_utils.so" \\
  -l:libcuda.so.1 "-L$TRITON_LIBCUDA_PATH"
exit 1
"""
"""What Triton does in the build: it compiles and links, then cannot load what it made, as there is no driver."""


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("readelf")), reason="no gcc here")
def test_what_is_compiled_without_a_driver_looks_for_it_where_it_is_loaded(tmp_path: Path) -> None:
    """A linker told `--as-needed`, as Debian's gcc does, drops a library that gives nothing."""
    (step,) = re.findall(r"^RUN (.*CudaUtils.*)$", stages()["cuda-build"][1], re.MULTILINE)
    for folder in ("driver", "cache-seed"):
        step = re.sub(rf"/[\w/]+/{folder}\b", str(tmp_path / folder), step)
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(_TRITON)
    python.chmod(0o755)
    cache = tmp_path / "cache-seed/triton"
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "TRITON_CACHE_DIR": str(cache)}
    done = subprocess.run(["sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = subprocess.run(
        ["readelf", "--dynamic", cache / "KEY/cuda_utils.so"], capture_output=True, text=True, check=True
    )
    assert re.search(r"NEEDED.*\[libcuda\.so\.1\]", found.stdout)


def test_triton_is_told_where_the_driver_lies() -> None:
    """It asks even where it compiles nothing: by itself `/sbin/ldconfig -p`, in whose list a container with a read-only
    root never gets the driver.
    """
    assert Path(variables("cuda")["TRITON_LIBCUDA_PATH"]).is_absolute()


def test_both_images_begin_as_the_server_without_rights() -> None:
    body = stages()["runtime"][1]
    assert re.search(r"^USER (?!0\b|root\b)\d+:\d+$", body, re.MULTILINE)
    (begun,) = re.findall(r"^ENTRYPOINT (.*)$", body, re.MULTILINE)
    assert json.loads(begun) == ["/usr/bin/tini", "--", "/opt/graft/entrypoint", "/opt/graft/bin/graft"]
    assert os.access(DEPLOY / "entrypoint", os.X_OK)
    assert re.search(r'^CMD \["serve"\]$', body, re.MULTILINE) and "\nHEALTHCHECK " in body


def test_torch_is_the_makefiles(repository: Path) -> None:
    made = (repository / "Makefile").read_text()
    body = stages()["cpu-packages"][1]
    for name in ("TORCH", "TORCH_INDEX"):
        (said,) = re.findall(rf"^{name} := (.*)$", made, re.MULTILINE)
        assert f"ARG {name}={said}\n" in body


def test_the_image_holds_what_triton_would_compile(repository: Path) -> None:
    """The stage `cuda-build` compiles Triton's driver module against an empty libcuda, and the last stage finds it in
    the cache by a key. In Triton 3.7 the source and the platform make the key, not where libcuda lies."""
    (version,) = re.findall(
        r"^triton==(\d+\.\d+)", (repository / "requirements/gpu-image.lock").read_text(), re.MULTILINE
    )
    assert version == "3.7", (
        f"Triton {version}: read what the key of compile_module_from_src (triton/runtime/build.py) is made of. Where "
        "the library's folder or the driver is part of it, the stage cuda-build must compile as the last stage would. "
        "Then build the image, start it on a GPU (it has no compiler), and write the version here"
    )


def test_packages_come_from_the_projects_index_only_by_the_builders_word(repository: Path) -> None:
    """Addresses in deploy/ are of the machine itself, of services beside it, or PyTorch's own index."""
    named = set()
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".svg":
            named |= set(re.findall(r"https?://([\w.-]+)", path.read_text()))
    assert named <= {"127.0.0.1", "localhost", "graft", "prometheus", "download.pytorch.org"}
