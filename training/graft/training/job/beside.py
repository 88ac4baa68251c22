"""What lies beside a base's weights, in the folder of a base that is made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.utils.hub import CHAT_TEMPLATE_DIR

_NOT_COPIED = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "README.md", ".*")


def copy_beside_weights(origin: Path, folder: Path) -> None:
    """Configuration, tokenizer and chat templates; no weights, no card. Raises OSError."""
    for path in origin.iterdir():
        if path.is_file() and not any(path.match(pattern) for pattern in _NOT_COPIED):
            shutil.copy2(path, folder)
    if (named := origin / CHAT_TEMPLATE_DIR).is_dir():
        shutil.copytree(named, folder / CHAT_TEMPLATE_DIR)
