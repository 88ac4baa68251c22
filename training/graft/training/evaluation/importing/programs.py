"""promptfoo's prompts as prompt programs, as ``graft prompts push`` takes them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from graft.training.errors import ConfigurationError
from graft.training.evaluation.importing import promptfoo
from graft.training.evaluation.importing.promptfoo_prompts import Prompts, PromptTemplate
from graft.training.evaluation.tasks import located


def push_command(path: Path) -> str:
    """The line that registers a file that ``write`` wrote, under its own name as far as prompts may have it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "prompt"
    return shlex.join(["graft", "prompts", "push", str(path), "--name", name])


def write(path: Path, folder: Path) -> list[Path]:
    """A JSON file for each prompt of a configuration; their names. A template of more than texts and names
    is written for Jinja, and the file says so.

    Raises ``ConfigurationError``, OSError.
    """
    file = located.read(path, only_true_and_false=True)
    if not promptfoo.is_one(file.value):
        raise ConfigurationError(f"--programs: {path} is no promptfoo configuration, and has no prompts to write.")
    prompts = Prompts(file).read()
    file.check()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, prompt in enumerate(prompts, start=1):
        name = path.name.split(".")[0] if len(prompts) == 1 else f"{path.name.split('.')[0]}-{number}"
        written.append(folder / f"{name}.json")
        written[-1].write_text(json.dumps(_program(prompt), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return written


def _program(prompt: PromptTemplate) -> dict[str, Any]:
    is_plain = all(one.is_plain for one in prompt.templates)
    texts = [one.mustache if is_plain else one.jinja for one in prompt.templates]
    form = {} if is_plain else {"template_format": "jinja2"}
    if prompt.text is not None:
        return {"type": "text", "prompt": texts[0], **form}
    turns = [{"role": role, "content": text} for (role, _), text in zip(prompt.turns, texts, strict=True)]
    return {"type": "chat", "prompt": turns, **form}
