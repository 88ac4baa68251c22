"""The Containerfile's stages: what the last ones rest on, and that their versions are the repository's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def stages() -> dict[str, tuple[str, str]]:
    """By name: what a stage is built from, and its instructions with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    return {name: (base, body) for base, name, body in found}


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
    assert copied == [("/opt/graft", "/opt/graft"), ("/var/cache/graft", "/var/cache/graft")]


def test_both_images_begin_as_the_server_without_rights() -> None:
    body = stages()["runtime"][1]
    assert re.search(r"^USER (?!0\b|root\b)\d+:\d+$", body, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["/usr/bin/tini", "--", "/opt/graft/bin/graft"\]$', body, re.MULTILINE)
    assert re.search(r'^CMD \["serve"\]$', body, re.MULTILINE) and "\nHEALTHCHECK " in body


def test_torch_is_the_makefiles(repository: Path) -> None:
    made = (repository / "Makefile").read_text()
    body = stages()["cpu-packages"][1]
    for name in ("TORCH", "TORCH_INDEX"):
        (said,) = re.findall(rf"^{name} := (.*)$", made, re.MULTILINE)
        assert f"ARG {name}={said}\n" in body


def test_packages_come_from_the_projects_index_only_by_the_builders_word(repository: Path) -> None:
    """Addresses in deploy/ are of the machine itself, of services beside it, or PyTorch's own index."""
    named = set()
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".svg":
            named |= set(re.findall(r"https?://([\w.-]+)", path.read_text()))
    assert named <= {"127.0.0.1", "localhost", "prometheus", "download.pytorch.org"}
