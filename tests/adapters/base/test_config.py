"""A base's configuration is part of its identity, and what was recorded before it was stays readable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from graft.adapters.adapter import UNKNOWN_LINEAGE, BaseIdentity
from graft.adapters.base.base import Base, find_base
from graft.adapters.base.config import digest
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database, alembic_config
from graft.adapters.compatibility import incompatibilities
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from tests.adapters.making import LIMITS, make_adapter, make_base

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 40,
    "hidden_size": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 500000.0},
        {"rms_norm_eps": 1e-6},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 1e6}},
        {"sliding_window": 128},
        {"hidden_act": "gelu"},
        {"tie_word_embeddings": False},
        {"text_config": {"rope_theta": 1.0}},
        {"a_key_of_years_to_come": 1},
    ],
)
def test_what_changes_the_computing_changes_the_digest(change: dict[str, Any]) -> None:
    assert digest(LLAMA | change) != digest(LLAMA)


@pytest.mark.parametrize(
    "change",
    [
        {"transformers_version": "9.0"},
        {"dtype": "bfloat16", "torch_dtype": "float32"},
        {"use_cache": False},
        {"attention_dropout": 0.1, "resid_pdrop": 0.2, "hidden_dropout_prob": 0.3},
        {"eos_token_id": [1, 2], "pad_token_id": 0},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"sliding_window": None},
        {"max_position_embeddings": 4096},
    ],
)
def test_what_does_not_is_left_out(change: dict[str, Any]) -> None:
    assert digest(LLAMA | change) == digest(LLAMA)


@pytest.mark.parametrize(
    "angles",
    [
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default"},
                "full_attention": {"rope_type": "dynamic"},
            }
        },
    ],
)
def test_a_context_that_scaled_angles_depend_on_counts(angles: dict[str, Any]) -> None:
    yarn = LLAMA | angles
    assert digest(yarn) != digest(yarn | {"max_position_embeddings": 4096})


def changed(folder: Path, **keys: Any) -> Base:
    """The base in `folder`, once its config.json says this, too."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return Base.from_folder(folder)


def test_an_adapter_of_a_base_with_other_angles_is_refused(tmp_path: Path) -> None:
    trained = make_base(tmp_path / "base")
    manifest = read_manifest(make_adapter(tmp_path / "a", base=trained))
    served = changed(tmp_path / "base", rope_theta=500000.0)
    assert served.digest != trained.digest and served.identity.weights_digest == trained.identity.weights_digest
    reasons = incompatibilities(
        manifest,
        served,
        LIMITS,
        declared_base=trained.identity,
        form=ServingForm.NF4,
        serving_form=ServingForm.NF4,
    )
    assert [reason.field for reason in reasons] == ["base.config_digest"]


def earlier(base: Base) -> BaseIdentity:
    """How a base was recorded when nobody asked for its configuration."""
    return replace(base.identity, config_digest=None)


def test_records_without_a_configuration_are_read_and_agree(base: Base, tmp_path: Path) -> None:
    TrainedRecord(base=base.identity, form=ServingForm.NF4, lineage=UNKNOWN_LINEAGE).write(tmp_path)
    body = json.loads((tmp_path / "graft.json").read_text())
    del body["base"]["config_digest"]
    body["base"]["digest"] = base.identity.digest_without_config
    (tmp_path / "graft.json").write_text(json.dumps(body))
    record = TrainedRecord.read(tmp_path)
    assert record is not None and record.base == earlier(base) and not record.base.differences(base.identity)


def test_an_earlier_catalog_is_upgraded_and_its_base_is_the_same_one(base: Base, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    database = Database(sa.create_engine(url))
    with database.writing() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "adapters_0001")
        parts = ("digest", "name", "weights_digest", "tokenizer_digest", "chat_template_digest")
        row = {key: getattr(earlier(base), key) for key in parts}
        row |= {"path": str(base.path), "create_time": "2026-01-01 00:00:00"}
        names, values = ", ".join(row), ", ".join(f":{key}" for key in row)
        connection.execute(sa.text(f"INSERT INTO bases ({names}) VALUES ({values})"), row)
    database.close()
    catalog = Catalog.open(url)
    (before,) = catalog.bases()
    assert (before.identity.digest, before.identity.config_digest) == (base.identity.digest_without_config, None)
    catalog.register_base(base)
    (after,) = catalog.bases()
    assert (after.identity, after.path) == (base.identity, base.path)
    assert find_base(base.digest, [after]) == find_base(base.identity.digest_without_config, [after]) == base.path
    catalog.close()
