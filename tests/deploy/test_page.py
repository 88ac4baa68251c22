"""deploy/README.md: what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (DEPLOY / "README.md").read_text())
    assert links and not [link for link in links if not (DEPLOY / link).exists()]


def test_every_file_of_its_commands_is_there(repository: Path) -> None:
    """All but the secrets, which its reader makes."""
    page = (DEPLOY / "README.md").read_text()
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL))
    named = set(re.findall(r"(?:deploy|requirements)/[\w./-]+", commands))
    assert len(named) > 6
    assert not [name for name in named if "secrets" not in name and not (repository / name).exists()]


def test_every_folder_of_deploy_is_named(repository: Path) -> None:
    page = (DEPLOY / "README.md").read_text()
    overlays = [path.parent.name for path in (DEPLOY / "kubernetes/overlays").glob("*/kustomization.yaml")]
    assert len(overlays) == 3 and all(f"](kubernetes/overlays/{name})" in page for name in overlays)
