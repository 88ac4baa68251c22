"""An immutable picture of all programs: requests resolve names here, so running never waits for the database."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from types import MappingProxyType

from graft.adapters.digest import digest_prefix, unique_match
from graft.adapters.errors import NotFound, Reason
from graft.server.prompting.catalog.prompt import PromptLabel, PromptVersion
from graft.server.prompting.program.names import LATEST, PRODUCTION, is_version
from graft.server.prompting.program.references import PromptReference

LABEL_BYTES = 512
"""What a label takes: object, keys and row."""
_MAX_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ResolvedPrompt:
    """What a reference means now. `label` is None where a version was named."""

    version: PromptVersion
    label: str | None


@dataclass(frozen=True, kw_only=True)
class PromptEntry:
    """One program: its versions by number, in order, and its labels by name, in order."""

    name: str
    versions: Mapping[int, PromptVersion]
    labels: Mapping[str, PromptLabel]

    @property
    def latest(self) -> PromptVersion:
        """The version with the highest number. Raises LookupError where there is none."""
        return self.versions[max(self.versions)]

    @cached_property
    def num_bytes(self) -> int:
        """What all versions and labels take."""
        return sum(version.num_bytes for version in self.versions.values()) + LABEL_BYTES * len(self.labels)

    @property
    def create_time(self) -> datetime:
        """When the oldest of its versions was registered."""
        return min(version.create_time for version in self.versions.values())

    @property
    def update_time(self) -> datetime:
        """When a version was registered or a label moved last."""
        moved = (label.update_time for label in self.labels.values())
        return max([*moved, *(version.create_time for version in self.versions.values())])

    def labels_of(self, number: int) -> tuple[str, ...]:
        """The labels that point at a version, `latest` last where it is that."""
        pointing = [label.name for label in self.labels.values() if label.version_number == number]
        return (*pointing, LATEST) if number == max(self.versions) else tuple(pointing)

    def find(self, selector: str | None) -> ResolvedPrompt:
        """The version that a number, a digest (8 hex digits or more) or a label names; None is `production`.

        Raises NotFound, naming what there is.
        """
        if not self.versions:
            raise _no_prompt(self.name)
        label = PRODUCTION if selector is None else selector
        if is_version(label):
            return ResolvedPrompt(version=self._numbered(label), label=None)
        if label == LATEST:
            return ResolvedPrompt(version=self.latest, label=LATEST)
        pointer = self.labels.get(label)
        if pointer is None:
            raise self._no_label(label, is_bare=selector is None)
        return ResolvedPrompt(version=self.versions[pointer.version_number], label=label)

    def _numbered(self, selector: str) -> PromptVersion:
        if selector.isdigit() and len(selector) < 8:
            found = self.versions.get(int(selector))
        else:
            by_digest = {version.digest: version for version in self.versions.values()}
            prefix = digest_prefix(selector) or ""
            try:
                found = by_digest[unique_match(prefix, set(by_digest), what="version")] if prefix else None
            except NotFound as error:
                raise self._missing(selector, error.message) from None
        if found is None:
            raise self._missing(selector, f"there is no version {selector[:100]}")
        return found

    def _missing(self, selector: str, problem: str) -> NotFound:
        numbers = ", ".join(map(str, list(self.versions)[-_MAX_SHOWN:]))
        reason = Reason(field="version", problem=problem, remedy=f"the latest versions: {numbers}")
        return NotFound(f"the prompt '{self.name}@{selector[:100]}' does not exist", [reason])

    def _no_label(self, label: str, *, is_bare: bool) -> NotFound:
        pointers = {name: pointer.version_number for name, pointer in self.labels.items()}
        known = ", ".join(
            f"{name} (version {number})" for name, number in (pointers | {LATEST: max(self.versions)}).items()
        )
        meant = ", which a bare name means" if is_bare else ""
        remedy = (
            f"ask for one of these as {self.name}:<label>, or set it: graft prompts label {self.name} {label} VERSION"
        )
        reason = Reason(field="label", problem=f"has no label {label!r}{meant}; its labels: {known}", remedy=remedy)
        return NotFound(f"the prompt '{self.name}:{label}' does not exist", [reason])


@dataclass(frozen=True, kw_only=True)
class PromptSnapshot:
    """Programs that have a version, by (tenant, name), as they were at one revision. Pure: no I/O, no clock."""

    entries: Mapping[tuple[str, str], PromptEntry] = field(default_factory=dict)
    revision: int = 0
    """What was counted up to; 0 before anything was read."""

    def with_entries(self, changed: Mapping[tuple[str, str], PromptEntry], *, revision: int) -> PromptSnapshot:
        """The programs `changed` replaced by what they are now, gone where that is no version; the others stay."""
        entries = {**self.entries, **changed}
        kept = {name: entry for name, entry in sorted(entries.items(), key=lambda one: one[0]) if entry.versions}
        return replace(self, entries=MappingProxyType(kept), revision=revision)

    def of_tenant(self, tenant: str) -> Iterator[PromptEntry]:
        """The tenant's programs, by name."""
        return (entry for (owner, _), entry in self.entries.items() if owner == tenant)

    def get(self, tenant: str, name: str) -> PromptEntry:
        """One program. Raises NotFound, which names no other tenant's."""
        entry = self.entries.get((tenant, name))
        if entry is None:
            near = difflib.get_close_matches(name[:128], [one.name for one in self.of_tenant(tenant)], n=3)
            raise _no_prompt(name, near)
        return entry

    def resolve(self, reference: PromptReference, *, tenant: str) -> ResolvedPrompt:
        """What `reference` means for `tenant`. Raises NotFound."""
        return self.get(tenant, reference.name).find(reference.selector)


def _no_prompt(name: str, near: list[str] | None = None) -> NotFound:
    remedy = f"did you mean {', '.join(near)}?" if near else "register it: graft prompts push"
    reason = Reason(field="prompt", problem="no prompt has this name", remedy=remedy)
    return NotFound(f"the prompt {name[:200]!r} does not exist", [reason])
