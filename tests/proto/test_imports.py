"""The client is thin: it runs where nothing but grpcio and protobuf is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Refuses everything outside the standard library except what the core dependencies bring.
_BLOCKER = """
import sys
ALLOWED = {"graft", "grpc", "google", "typing_extensions"} | set(sys.stdlib_module_names)
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED and not name.startswith("_"):
            raise ModuleNotFoundError(f"{name} is not a core dependency", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(repository: Path, code: str) -> str:
    code = f"{_BLOCKER}\nsys.path.insert(0, {str(repository / 'proto')!r})\n{code}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_imports_with_core_dependencies_only(repository: Path) -> None:
    heavy = run(
        repository,
        "import graft.client, grpc\n"
        "graft.client.Client('localhost:1').close()\n"
        "heavy = {'torch', 'vllm', 'transformers', 'numpy', 'sqlalchemy', 'pydantic', 'asyncpg'}\n"
        "print(sorted(heavy & set(sys.modules)))",
    )
    assert heavy.strip() == "[]"


@pytest.mark.parametrize("command", ["adapters", "generate", "chat", "score", "doctor"])
def test_client_commands_run_with_core_dependencies_only(repository: Path, command: str) -> None:
    output = run(
        repository, f"from graft.cli.main import main\ntry: main([{command!r}, '--help'])\nexcept SystemExit: pass"
    )
    assert output.startswith(f"usage: graft {command}")
