"""Models of a hub: fetched once into its local cache, and kept at the commit that was first taken.

What reaches the hub is huggingface_hub's: its cache, tokens (`HF_TOKEN`, `HF_TOKEN_PATH`, `hf auth login`), the address
(`HF_ENDPOINT`), offline mode (`HF_HUB_OFFLINE`); a file that breaks off goes on where it was, and files that came whole
are not fetched again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from graft.adapters.base.hub_download import download, in_cache
from graft.adapters.base.hub_id import HubId
from graft.adapters.errors import NotFound

FILE_NAME = "hub.json"
"""What a command keeps beside its other files: the commit by repository."""

# Of a tokenizer's folder: no code, no pickles.
_TOKENIZER_FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
_MODEL_FILES = (
    *_TOKENIZER_FILES,
    *("generation_config.json", "graft_base.json", "graft_pruned.json", "*.safetensors", "*.safetensors.index.json"),
)
_FORGET = "mend it, or remove it to take what is newest"
# The same weights once more, as other programs name them.
_LEFT_OUT = ("*/*.safetensors", "*/*.json", "consolidated*")


def _say(line: str) -> None:
    """Once for all processes that torchrun starts on a machine: they share the cache."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"graft: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The model hub, as one command or server sees it.

    `pins` is a file of the commits that were taken before: without a revision, a name means the same commit again.
    `say` tells people what is fetched, and how far that is.
    """

    pins: Path | None = None
    say: Callable[[str], None] = _say

    def model(self, name: HubId, *, recorded: str | None = None) -> Path:
        """The folder of a model's configuration, tokenizer and safetensors weights, fetched where it is not in the
        cache. `recorded` is a commit known from elsewhere, for a name that `pins` does not hold.

        Blocks for as long as a download takes. Raises NotFound saying why the hub does not give it, or that
        `pins` is broken, StoreFull.
        """
        return self._fetched(name, _MODEL_FILES, recorded=recorded)

    def tokenizer(self, name: HubId) -> Path:
        """Like `model`, without weights."""
        return self._fetched(name, _TOKENIZER_FILES)

    def say_shadowed(self, name: HubId) -> None:
        """Say that a folder of this name is taken, where the cache holds a repository that is called so, too."""
        if in_cache(name.repository):
            self.say(f"{name} is a folder here, which is taken, and not the model of that name on the hub")

    def _fetched(self, name: HubId, files: tuple[str, ...], *, recorded: str | None = None) -> Path:
        pinned = self._pinned()
        before = None if name.revision is not None else pinned.get(name.repository, recorded)
        wanted = name if before is None else replace(name, revision=before)
        folder = download(wanted, files=files, left_out=_LEFT_OUT, say=self.say)
        kept = "" if before is None else f", as before ({name}@main takes what is newest)"
        self.say(f"{name.repository} is taken at commit {folder.name}{kept}")
        self._pin({**pinned, name.repository: folder.name}, before=pinned)
        return folder

    def _pinned(self) -> Mapping[str, str]:
        """The commit by repository. A file that cannot be read is no word that nothing was taken."""
        if self.pins is None or not self.pins.exists():
            return {}
        try:
            found = json.loads(self.pins.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotFound(f"{self.pins} does not say which commits were taken before ({error}): {_FORGET}") from None
        if not isinstance(found, dict) or not all(isinstance(commit, str) for commit in found.values()):
            raise NotFound(f"{self.pins} does not say which commits were taken before: {_FORGET}")
        return found

    def _pin(self, commits: Mapping[str, str], *, before: Mapping[str, str]) -> None:
        if self.pins is None or commits == before:
            return
        self.pins.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(commits, indent=1, sort_keys=True) + "\n"
        with tempfile.NamedTemporaryFile("w", dir=self.pins.parent, delete=False, encoding="utf-8") as draft:
            draft.write(text)
        Path(draft.name).replace(self.pins)
