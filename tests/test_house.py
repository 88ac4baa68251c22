"""The house's rules that no linter keeps."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.tools.imports import CODE_ROOTS, among, circles, imports

MAX_LINES = 500
MAX_FILES = 15
LOOSE = {
    "adapters/graft/adapters": {
        "accepting", "adapter", "compatibility", "digest", "errors", "form", "names",
    },
    "server/graft/server": {"assembly", "errors", "main", "management", "serving"},
    "training/graft/training": {"errors"},
}  # fmt: skip
"""The files that lie beside a portion's rooms; all others lie in one."""
PORTIONS = [
    "graft.adapters", "graft.bench.serving", "graft.bench.training", "graft.cli", "graft.client", "graft.machine",
    "graft.server", "graft.training",
]  # fmt: skip


def python_files(repository: Path) -> list[Path]:
    files = [path for root in CODE_ROOTS for path in (repository / root).rglob("*.py")]
    return [path for path in files if not re.search(r"_pb2(_grpc)?\.py$", path.name)]


@pytest.mark.parametrize("root", CODE_ROOTS)
def test_each_root_holds_one_portion_of_the_namespace(repository: Path, root: str) -> None:
    assert not (repository / root / "graft" / "__init__.py").exists(), "graft is a namespace package (PEP 420)"
    outside = [path for path in (repository / root).rglob("*.py") if (repository / root / "graft") not in path.parents]
    assert not outside, "a root holds the portion of `graft` and nothing else"


def test_deploy_holds_no_python(repository: Path) -> None:
    assert not list((repository / "deploy").rglob("*.py"))


@pytest.mark.parametrize("module", ["graft.server", "graft.server.engine"])
def test_what_every_engine_process_imports_imports_nothing(module: str) -> None:
    """The LoRA plugin is loaded in every engine process through these packages."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"graft", "graft.server", "graft.server.engine"}


def test_a_file_stays_readable(repository: Path) -> None:
    """A file over 500 lines needs a reason at its top; none has one so far."""
    long = {
        path: count for path in python_files(repository) if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long


@pytest.mark.parametrize("portion", LOOSE)
def test_no_file_lies_loose_beside_the_rooms(repository: Path, portion: str) -> None:
    found = {path.stem for path in (repository / portion).glob("*.py")} - {"__init__"}
    assert found == LOOSE[portion], "put it into a room, or say in LOOSE why it is one of its own"


def test_no_folder_holds_many_files(repository: Path) -> None:
    files = [*python_files(repository), *(repository / "tests").rglob("*.py")]
    folders = Counter(path.parent for path in files if path.name != "__init__.py")
    # One file for each objective.
    folders.pop(repository / "training/graft/training/objective")
    assert not {folder for folder, count in folders.items() if count > MAX_FILES}


@pytest.mark.parametrize("portion", PORTIONS)
def test_no_circle_between_rooms(repository: Path, portion: str) -> None:
    """So a room can be read, tested and replaced with what lies below it alone."""
    assert circles(among(imports(repository), portion)) == []


@pytest.mark.parametrize("portion", ["graft.adapters", "graft.server", "graft.training"])
def test_no_import_back_up_between_rooms(repository: Path, portion: str) -> None:
    """Down the layers of `pyproject.toml`: read here from the source, beside import-linter."""
    contracts = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == [portion])
    depth = {f"{portion}.{room}": number for number, layer in enumerate(layers) for room in layer.split(" | ")}
    arrows = among(imports(repository), portion)
    assert depth.keys() == arrows.keys()
    assert not [(room, other) for room, others in arrows.items() for other in others if depth[room] >= depth[other]]


def test_no_circle_between_the_folders_inside_a_room(repository: Path) -> None:
    graph = imports(repository)
    parents = {name.rpartition(".")[0] for name in graph} - {"graft.v1"}
    found = {parent: circles(among(graph, parent)) for parent in sorted(parents)}
    assert not {parent for parent, parts in found.items() if any(one in parents for part in parts for one in part)}


def test_every_portion_is_typed(repository: Path) -> None:
    portions = {path.parent for path in python_files(repository) if len(path.relative_to(repository).parts) == 4}
    missing = [portion for portion in sorted(portions) if not (portion / "py.typed").exists()]
    assert not missing


def test_no_machine_path_stands_in_the_repository(repository: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    home = re.compile(r"(?<![\w.])/(?:work|root|Users)/|/home/(?!graft\b)\w")
    own = Path(__file__).relative_to(repository).as_posix()
    found = []
    for name in filter(None, tracked.stdout.split("\0")):
        path = repository / name
        if name != own and path.suffix in {".py", ".md", ".toml", ".sh", ".yaml", ".lock", ""} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            found += [f"{name}: {match[0]}" for match in home.finditer(text)]
    assert not found


def test_every_command_is_a_module_of_its_portion(repository: Path) -> None:
    """An entry point that names a missing file would vanish from `graft --help` in a wheel."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    missing = []
    for module in project["entry-points"]["graft.commands"].values():
        path = module.replace(".", "/") + ".py"
        if not any((repository / root / path).exists() for root in CODE_ROOTS):
            missing.append(module)
    assert not missing


def test_every_file_that_the_maintainers_page_names_is_there(repository: Path) -> None:
    page = (repository / "CONTRIBUTING.md").read_text()
    house = page[page.index("## The house") : page.index("## Adding a command")]
    portions = [repository, *(repository / name for name in LOOSE), repository / "proto/graft/client"]
    server = repository / "server/graft/server"
    portions += [server / "api/http", server / "prompting", server / "prompting/reasoning"]
    named = set(re.findall(r"`((?:[\w.]+/)*[\w]+\.(?:py|toml|binpb|md)|(?:[\w.]+/)+)`", house))
    assert len(named) > 40
    assert not [name for name in sorted(named) if not any((portion / name).exists() for portion in portions)]
