"""The form in which a base is held: the folder's own, or one that the engine can make of plain weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.errors import InvalidBase
from graft.adapters.form import ServingForm
from graft.server.registry.base_choice import choose_base, choose_form
from tests.adapters.base.local_hub import Repository, running, use

PLAIN = Base.from_folder(shipped_bases()["rootstock-5m"])
INT4 = dataclasses.replace(PLAIN, form=ServingForm.INT4)


@pytest.mark.parametrize(
    ("base", "asked", "form"),
    [
        (PLAIN, None, ServingForm.NF4),
        (PLAIN, ServingForm.BF16, ServingForm.BF16),
        (INT4, None, ServingForm.INT4),
        (INT4, ServingForm.INT4, ServingForm.INT4),
    ],
)
def test_the_form_is_the_folders_or_made_of_plain_weights(
    base: Base, asked: ServingForm | None, form: ServingForm
) -> None:
    assert choose_form(base, asked) is form


@pytest.mark.parametrize(
    ("base", "asked", "said"),
    [
        (
            INT4,
            ServingForm.NF4,
            "nf4 was asked for, but the weights in .* are int4 already; .* serve the plain weights",
        ),
        (INT4, ServingForm.BF16, "are int4 already"),
        (PLAIN, ServingForm.INT8, "are plain; graft quantize rootstock-5m --form int8"),
        (PLAIN, ServingForm.LLM_INT8, "are plain; graft quantize rootstock-5m --form llm-int8"),
    ],
)
def test_any_other_form_is_refused_with_the_reason(base: Base, asked: ServingForm, said: str) -> None:
    with pytest.raises(InvalidBase, match=said):
        choose_form(base, asked)


def test_a_server_keeps_the_commit_of_a_hubs_base_and_starts_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    with running() as hub, caplog.at_level("INFO"):
        hub.repositories["oaks/oak"] = Repository()
        commit = hub.repositories["oaks/oak"].commit(PLAIN.path)
        use(hub, tmp_path / "cache", monkeypatch)
        base = choose_base("oaks/oak", (), data=data)
    assert (base.name, base.digest, base.path.name) == ("oaks/oak", PLAIN.digest, commit)
    assert json.loads((data / "hub.json").read_text()) == {"oaks/oak": commit}
    assert f"oaks/oak is taken at commit {commit}" in caplog.text, "an operator reads it in the log"
    use(None, tmp_path / "cache", monkeypatch)
    assert choose_base("oaks/oak", (), data=data) == base
