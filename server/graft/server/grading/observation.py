"""What is graded: a dataset's item and a model's sample, as templates and scripts see them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from graft.server.grading.templates import text_of
from graft.server.runtime.json_values import BadJson, read_json


@dataclass(frozen=True, kw_only=True)
class Observation:
    """`item` is the dataset's row, `output_text` the model's answer, `tools` the calls that it made."""

    output_text: str
    item: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def sample(self) -> dict[str, Any]:
        """The `sample` namespace. `output_json` is there where the answer is JSON."""
        sample: dict[str, Any] = {
            "output_text": self.output_text,
            "output_tools": list(self.tools),
            "choices": [{"message": {"role": "assistant", "content": self.output_text}}],
        }
        with contextlib.suppress(BadJson):
            sample["output_json"] = read_json(self.output_text)
        return sample

    @cached_property
    def values(self) -> dict[str, Any]:
        """Both namespaces."""
        return {"item": self.item, "sample": self.sample}

    @cached_property
    def num_characters(self) -> int:
        """Of all that stands in it, about. Raises `TooLong` where it is nested too deeply to be written."""
        return len(self.output_text) + sum(len(text_of(one)) for one in (self.item, *self.tools))

    @property
    def is_json(self) -> bool:
        """Whether the answer is JSON."""
        return "output_json" in self.sample
