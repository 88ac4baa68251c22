"""Names, digests, and what a trainer records."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.adapter import AdapterFile, Lineage, Parent, Provenance, version_digest
from graft.adapters.base.base import Base
from graft.adapters.errors import InvalidAdapter, InvalidReference
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.adapters.names import check_adapter_name, check_name
from tests.adapters.making import REFERENCE

FILES = [
    AdapterFile(name="adapter_model.safetensors", size_bytes=9, sha256="b" * 64),
    AdapterFile(name="adapter_config.json", size_bytes=5, sha256="a" * 64),
]
LINEAGE = Lineage(job="j", data_digest=None, code_version="0.1", seed=3)
PARENTS = (Parent(digest="sha256:" + "7" * 64, weight=0.7), Parent(digest="sha256:" + "8" * 64, weight=-1.0))


def test_the_version_digest_is_this_json_and_no_other() -> None:
    """A golden value: versions that exist must keep their digest, so the text is spelled out by hand here."""
    text = (
        '{"base":["sha256:' + "1" * 64 + '","sha256:' + "2" * 64 + '",null],'
        '"files":[["adapter_config.json","' + "a" * 64 + '"],["adapter_model.safetensors","' + "b" * 64 + '"]],'
        '"form":"nf4","lineage":["j",null,"0.1",3],"provenance":"trained"}'
    )
    found = version_digest(
        files=FILES, base=REFERENCE, form=ServingForm.NF4, provenance=Provenance.TRAINED, lineage=LINEAGE
    )
    assert found == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_every_part_of_the_content_counts_and_labels_do_not() -> None:
    same = {
        "files": FILES,
        "base": REFERENCE,
        "form": ServingForm.NF4,
        "provenance": Provenance.TRAINED,
        "lineage": LINEAGE,
    }
    changes = [
        {"files": FILES[:1]},
        {"files": [replace(FILES[0], sha256="c" * 64), FILES[1]]},
        {"base": replace(REFERENCE, tokenizer_digest="sha256:" + "3" * 64)},
        {"base": replace(REFERENCE, chat_template_digest="sha256:" + "3" * 64)},
        {"form": ServingForm.BF16},
        {"provenance": Provenance.DECLARED},
        {"lineage": replace(LINEAGE, seed=4)},
        {"lineage": replace(LINEAGE, parents=PARENTS)},
        {"lineage": replace(LINEAGE, parents=PARENTS[:1])},
        {"lineage": replace(LINEAGE, parents=PARENTS[::-1])},
    ]
    digests = {version_digest(**(same | change)) for change in [{}, *changes]}  # type: ignore[arg-type]
    assert len(digests) == len(changes) + 1
    renamed = same | {"base": replace(REFERENCE, name="other"), "files": FILES[::-1]}
    assert version_digest(**renamed) == version_digest(**same)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "joe", "0", "a.b-c_d", "x" * 63])
def test_names_that_fit(name: str) -> None:
    assert check_name(name, what="adapter") == name


@pytest.mark.parametrize(
    "name",
    ["", "..", ".", "../x", "a/b", "a..b", "-a", "_a", ".a", "A", "a b", "a\n", "a:b", "a@b", "ä", "x" * 64, "a\x00"],
)
def test_names_that_do_not(name: str) -> None:
    with pytest.raises(InvalidReference, match="names match"):
        check_name(name, what="adapter")


@given(st.text(max_size=70))
def test_no_accepted_name_is_a_path_out(name: str) -> None:
    try:
        check_name(name, what="tenant")
    except InvalidReference:
        return
    folder = Path("/srv/adapters")
    assert (folder / name).resolve() == folder / name
    assert (folder / name).parent == folder


@pytest.mark.parametrize("name", ["base", "ft", "prompt", "prompts"])
def test_words_of_references_are_no_adapters(name: str) -> None:
    with pytest.raises(InvalidReference, match="reserved"):
        check_adapter_name(name)


def test_a_training_record_comes_back_as_written(base: Base, tmp_path: Path) -> None:
    record = TrainedRecord(base=base.identity, form=ServingForm.INT8, lineage=LINEAGE)
    record.write(tmp_path)
    assert TrainedRecord.read(tmp_path) == record
    assert TrainedRecord.read(tmp_path / "elsewhere") is None


def test_a_broken_training_record_is_refused_with_all_reasons(base: Base, tmp_path: Path) -> None:
    path = TrainedRecord(base=base.identity, form=ServingForm.INT8, lineage=LINEAGE).write(tmp_path)
    body = json.loads(path.read_text())
    body["form"], body["extra"] = "fp3", 1
    body["base"]["weights_digest"] = "sha256:short"
    del body["lineage"]["seed"]
    path.write_text(json.dumps(body))
    with pytest.raises(InvalidAdapter) as caught:
        TrainedRecord.read(tmp_path)
    fields = {reason.field.removeprefix("graft.json:") for reason in caught.value.reasons}
    assert fields == {"form", "extra", "base.weights_digest", "lineage.seed"}


def test_a_base_with_another_key_or_too_few_is_refused(base: Base, tmp_path: Path) -> None:
    path = TrainedRecord(base=base.identity, form=ServingForm.NF4, lineage=LINEAGE).write(tmp_path)
    body = json.loads(path.read_text())
    body["base"]["seed"] = 1
    del body["base"]["chat_template_digest"]
    path.write_text(json.dumps(body))
    with pytest.raises(InvalidAdapter) as caught:
        TrainedRecord.read(tmp_path)
    assert [(one.field, one.problem) for one in caught.value.reasons] == [
        ("graft.json:base.chat_template_digest", "is missing"),
        ("graft.json:base.seed", "is an unknown key"),
    ]


@pytest.mark.parametrize("seed", [True, "3", 3.0])
def test_what_only_looks_like_a_number_is_none(base: Base, tmp_path: Path, seed: object) -> None:
    path = TrainedRecord(base=base.identity, form=ServingForm.NF4, lineage=LINEAGE).write(tmp_path)
    body = json.loads(path.read_text())
    body["lineage"]["seed"] = seed
    path.write_text(json.dumps(body))
    with pytest.raises(InvalidAdapter, match=r"graft\.json:lineage\.seed: .* should be a valid integer"):
        TrainedRecord.read(tmp_path)


def test_a_base_digest_that_is_not_of_its_parts_is_refused(base: Base, tmp_path: Path) -> None:
    path = TrainedRecord(base=base.identity, form=ServingForm.NF4, lineage=LINEAGE).write(tmp_path)
    path.write_text(path.read_text().replace(base.digest, "sha256:" + "e" * 64))
    with pytest.raises(InvalidAdapter, match="is not the digest of its parts"):
        TrainedRecord.read(tmp_path)


def test_parents_are_written_where_there_are_any(tmp_path: Path) -> None:
    """Servers of before refuse a key that they do not know."""
    plain = TrainedRecord(base=REFERENCE, form=ServingForm.NF4, lineage=LINEAGE)
    written = json.loads(plain.write(tmp_path).read_text())
    assert (set(written), "parents" in written["lineage"]) == ({"base", "form", "lineage"}, False)
    made = replace(plain, lineage=replace(LINEAGE, parents=PARENTS), provenance=Provenance.DECLARED)
    made.write(tmp_path)
    assert TrainedRecord.read(tmp_path) == made


@pytest.mark.parametrize(
    "wrong", [{"digest": "sha256:7", "weight": 1.0}, {"digest": "sha256:" + "7" * 64, "weight": float("nan")}, 3]
)
def test_a_parent_is_a_digest_with_a_number(tmp_path: Path, wrong: object) -> None:
    path = TrainedRecord(base=REFERENCE, form=ServingForm.NF4, lineage=LINEAGE).write(tmp_path)
    body = json.loads(path.read_text())
    body["lineage"]["parents"] = [wrong]
    path.write_text(json.dumps(body))
    with pytest.raises(InvalidAdapter, match=r"graft\.json"):
        TrainedRecord.read(tmp_path)
