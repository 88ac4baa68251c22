"""How much a tenant may keep. Every server holds all programs in memory, so nobody's may fill it."""

from __future__ import annotations

from dataclasses import dataclass

from graft.server.errors import QuotaExceeded
from graft.server.prompting.catalog.draft import Draft
from graft.server.prompting.catalog.prompt import stored_bytes
from graft.server.prompting.catalog.snapshot import LABEL_BYTES, PromptSnapshot

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Quota:
    """`max_mib` bounds a tenant's versions and labels together, as `PromptEntry.num_bytes` counts them."""

    max_mib: int = 64

    def check_register(self, draft: Draft, snapshot: PromptSnapshot) -> None:
        """Raises `QuotaExceeded`. Content that is there already takes nothing."""
        entry = snapshot.entries.get((draft.tenant, draft.prompt))
        versions, labels = ({}, {}) if entry is None else (entry.versions, entry.labels)
        num_bytes = LABEL_BYTES * len(set(draft.labels) - set(labels))
        if all(one.digest != draft.digest for one in versions.values()):
            num_bytes += stored_bytes(draft.text, draft.commit_message, draft.tags)
        self._check(draft.tenant, num_bytes, snapshot)

    def check_label(self, tenant: str, prompt: str, label: str, snapshot: PromptSnapshot) -> None:
        """Raises `QuotaExceeded`. A label that moves takes nothing."""
        entry = snapshot.entries.get((tenant, prompt))
        if entry is not None and label not in entry.labels:
            self._check(tenant, LABEL_BYTES, snapshot)

    def _check(self, tenant: str, num_bytes: int, snapshot: PromptSnapshot) -> None:
        held = sum(entry.num_bytes for entry in snapshot.of_tenant(tenant))
        if num_bytes and held + num_bytes > self.max_mib * _MIB:
            raise QuotaExceeded(
                f"the tenant's programs take {held} bytes and this would add {num_bytes}: the limit is "
                f"{self.max_mib * _MIB} (max_prompts_mib = {self.max_mib}); delete versions that nobody uses "
                "(graft prompts delete), or raise the setting"
            )
