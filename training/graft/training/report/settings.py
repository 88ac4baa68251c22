"""What a training was told: what somebody chose first, and behind a click all the rest."""

from __future__ import annotations

from dataclasses import fields

from graft.training.report.page import Section, definitions, folded, paragraph
from graft.training.settings.settings import TrainingSettings


def section(settings: TrainingSettings) -> Section:
    changed: dict[str, object] = {}
    kept: dict[str, object] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        (kept if value == field.default else changed)[field.name] = value
    chosen = definitions(changed) if changed else paragraph("Every setting is its default.", kind="quiet")
    return Section(
        title="Settings", body=chosen + folded(f"{len(kept)} others, as they are by default", definitions(kept))
    )
