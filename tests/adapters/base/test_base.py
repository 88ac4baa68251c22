"""A base is known by the digests of its weights, tokenizer and template."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base, find_base, shipped_bases
from graft.adapters.errors import InvalidBase, NotFound
from tests.adapters.making import SHAPES, TEMPLATE, VOCABULARY, WIDTH, make_base


def test_reads_what_the_headers_say(base: Base) -> None:
    assert base.modules["model.layers.1.mlp.up_proj"] == (32, 16)
    assert len(base.modules) == 2 * len(SHAPES)
    assert "model.embed_tokens" not in base.modules
    per_layer = sum(out_features * in_features for out_features, in_features in SHAPES.values())
    assert base.num_parameters == VOCABULARY * WIDTH + WIDTH + 2 * per_layer
    assert (base.vocab_size, base.architecture) == (VOCABULARY, "LlamaForCausalLM")
    assert base.size_bytes == (base.path / "model.safetensors").stat().st_size


def test_template_digest_is_the_sha256_of_its_text(base: Base) -> None:
    assert base.identity.chat_template_digest == "sha256:" + hashlib.sha256(TEMPLATE.encode()).hexdigest()


def test_each_part_changes_its_own_digest_only(base: Base, tmp_path: Path) -> None:
    weights = make_base(tmp_path / "weights", seed=9)
    template = make_base(tmp_path / "template", template="other")
    tokenizer = make_base(tmp_path / "tokenizer", vocabulary="xyz")
    same = make_base(tmp_path / "same")
    assert same.digest == base.digest
    assert len({base.digest, weights.digest, template.digest, tokenizer.digest}) == 4
    assert weights.identity.tokenizer_digest == base.identity.tokenizer_digest != tokenizer.identity.tokenizer_digest
    assert template.identity.tokenizer_digest == base.identity.tokenizer_digest
    assert template.identity.weights_digest == base.identity.weights_digest != weights.identity.weights_digest


def test_a_template_file_is_the_same_template(base: Base, tmp_path: Path) -> None:
    moved = make_base(tmp_path / "moved", template=None)
    assert moved.identity.chat_template_digest is None
    (moved.path / "chat_template.jinja").write_text(TEMPLATE)
    assert Base.from_folder(moved.path).digest == base.digest


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidBase) as caught:
        Base.from_folder(tmp_path)
    assert {reason.field for reason in caught.value.reasons} == {"config.json", "*.safetensors", "tokenizer"}


def test_a_shard_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    made = make_base(tmp_path / "base")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (made.path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidBase, match=r"model-2\.safetensors: is missing"):
        Base.from_folder(made.path)


def test_weights_are_hashed_once_and_again_after_a_change(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_base(tmp_path / "base")
    cache = tmp_path / "cache"
    assert Base.from_folder(made.path, cache_dir=cache).digest == base.digest
    hashed: list[str] = []
    real = base_files.sha256_of_file
    monkeypatch.setattr(base_files, "sha256_of_file", lambda path: (hashed.append(path.name), real(path))[1])
    assert Base.from_folder(made.path, cache_dir=cache).digest == base.digest
    assert "model.safetensors" not in hashed
    other = make_base(tmp_path / "other", seed=3)
    (other.path / "model.safetensors").replace(made.path / "model.safetensors")
    assert Base.from_folder(made.path, cache_dir=cache).identity.weights_digest == other.identity.weights_digest
    (cache / "weights-digests.json").write_text("{broken")
    assert Base.from_folder(made.path, cache_dir=cache).identity.weights_digest == other.identity.weights_digest


def test_hashes_that_cannot_be_kept_are_told(base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_base(tmp_path / "base")
    (tmp_path / "file").touch()
    assert Base.from_folder(made.path, cache_dir=tmp_path / "file" / "cache").digest == base.digest
    assert [one.getMessage() for one in caplog.records] == [
        f"hashes of weights cannot be kept in {tmp_path}/file/cache (Not a directory): they are computed anew"
    ]


def test_bases_are_found_by_name_digest_prefix_and_folder(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.adapters.base.base.shipped_bases", dict)
    for reference in ("tiny", base.digest, base.digest[:15], base.digest[7:15], str(base.path)):
        assert find_base(reference, [base]) == base.path
    with pytest.raises(NotFound, match="bases known by name: tiny"):
        find_base("huge", [base])
    with pytest.raises(NotFound):
        find_base("0" * 64, [base])


def test_shipped_bases_are_folders_with_a_configuration() -> None:
    assert all((path / "config.json").is_file() for path in shipped_bases().values())
