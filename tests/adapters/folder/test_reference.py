"""reference.json: what a trainer wrote is read back; anything else is refused with all reasons, before it is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.adapter import AdapterVersion
from graft.adapters.base.base import Base
from graft.adapters.errors import IncompatibleAdapter, InvalidAdapter
from graft.adapters.folder.reference import MAX_ROWS, Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.adapters.store.store import BlobStore
from tests.adapters.making import VOCABULARY, make_adapter, make_base, make_tensors

Accept = Callable[..., AdapterVersion]
ROW = {"token_ids": [3, 1, 4, 1, 5], "num_prompt_tokens": 2, "logprobs": [-0.5, 0, -2.25]}
REFERENCE = Reference(
    form=ServingForm.NF4,
    rows=(ReferenceRow(token_ids=(3, 1, 4), num_prompt_tokens=2, logprobs=(-0.5,)),),
)


def _write(folder: Path, body: object) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "reference.json").write_text(json.dumps(body))
    return folder


@given(
    st.lists(
        st.integers(2, 40).flatmap(
            lambda length: st.tuples(
                st.lists(st.integers(0, VOCABULARY - 1), min_size=length, max_size=length), st.integers(1, length - 1)
            )
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[list[int], int]]
) -> None:
    folder = tmp_path_factory.mktemp("reference")
    reference = Reference(
        form=ServingForm.BF16,
        rows=tuple(
            ReferenceRow(token_ids=tuple(ids), num_prompt_tokens=start, logprobs=(-0.125,) * (len(ids) - start))
            for ids, start in rows
        ),
    )
    reference.write(folder)
    assert Reference.read(folder, vocab_size=VOCABULARY) == reference
    shutil.rmtree(folder)


def test_no_file_is_no_reference(tmp_path: Path) -> None:
    assert Reference.read(tmp_path) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "reference.json"),
        ({"rows": [ROW]}, "form"),
        ({"form": "nf5", "rows": [ROW]}, "form"),
        ({"form": ["nf4"], "rows": [ROW]}, "form"),
        ({"form": "nf4"}, "rows"),
        ({"form": "nf4", "rows": []}, "rows"),
        ({"form": "nf4", "rows": [ROW] * (MAX_ROWS + 1)}, "rows"),
        ({"form": "nf4", "rows": [ROW], "more": 1}, "more"),
        ({"form": "nf4", "rows": [[1, 2]]}, "rows[0]"),
        ({"form": "nf4", "rows": [ROW, ROW | {"more": 1}]}, "rows[1].more"),
        ({"form": "nf4", "rows": [{"token_ids": [3, 1], "logprobs": [-1]}]}, "rows[0].num_prompt_tokens"),
        ({"form": "nf4", "rows": [ROW | {"token_ids": [3]}]}, "rows[0].token_ids"),
        ({"form": "nf4", "rows": [ROW | {"token_ids": [1] * 4097}]}, "rows[0].token_ids"),
        ({"form": "nf4", "rows": [ROW | {"token_ids": [3, 1, VOCABULARY, 1, 5]}]}, "rows[0].token_ids"),
        ({"form": "nf4", "rows": [ROW | {"token_ids": [3, 1, -1, 1, 5]}]}, "rows[0].token_ids[2]"),
        ({"form": "nf4", "rows": [ROW | {"token_ids": [3, 1, True, 1, 5]}]}, "rows[0].token_ids[2]"),
        ({"form": "nf4", "rows": [ROW | {"token_ids": [3, 1, 4.0, 1, 5]}]}, "rows[0].token_ids[2]"),
        ({"form": "nf4", "rows": [ROW | {"num_prompt_tokens": 0}]}, "rows[0].num_prompt_tokens"),
        ({"form": "nf4", "rows": [ROW | {"num_prompt_tokens": 5}]}, "rows[0].num_prompt_tokens"),
        ({"form": "nf4", "rows": [ROW | {"num_prompt_tokens": "2"}]}, "rows[0].num_prompt_tokens"),
        ({"form": "nf4", "rows": [ROW | {"logprobs": [-0.5, -1]}]}, "rows[0].logprobs"),
        ({"form": "nf4", "rows": [ROW | {"logprobs": [-0.5, -1, 0.001]}]}, "rows[0].logprobs[2]"),
        ({"form": "nf4", "rows": [ROW | {"logprobs": [-0.5, -1, None]}]}, "rows[0].logprobs[2]"),
        ({"form": "nf4", "rows": [ROW | {"logprobs": [-0.5, -1, "-1"]}]}, "rows[0].logprobs[2]"),
        ({"form": "nf4", "rows": [ROW | {"logprobs": [-0.5, -1, False]}]}, "rows[0].logprobs[2]"),
        ({"form": "nf4", "rows": [ROW | {"logprobs": [-0.5, -1, -(10**400)]}]}, "rows[0].logprobs[2]"),
    ],
)
def test_a_bad_reference_names_the_field(tmp_path: Path, body: object, field: str) -> None:
    with pytest.raises(InvalidAdapter) as caught:
        Reference.read(_write(tmp_path, body), vocab_size=VOCABULARY)
    (reason,) = caught.value.reasons
    assert reason.field in (field, f"reference.json:{field}")


@pytest.mark.parametrize(
    "text", ["", "{", '{"form": "nf4", "form": "nf4"}', '{"rows": [NaN]}', '{"rows": [-Infinity]}']
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reference.json").write_text(text)
    with pytest.raises(InvalidAdapter, match="JSON"):
        Reference.read(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text(" " * (9 << 20))
    with pytest.raises(InvalidAdapter, match="larger"):
        Reference.read(tmp_path)


def test_all_reasons_come_at_once(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [ROW | {"token_ids": [99] * 5, "logprobs": [1.0] * 3}, ROW | {"num_prompt_tokens": 9}]
    with pytest.raises(InvalidAdapter) as caught:
        Reference.read(_write(tmp_path, {"form": "x", "rows": rows}), vocab_size=VOCABULARY)
    assert len(caught.value.reasons) == 4


@pytest.mark.parametrize(("num_faults", "num_reasons"), [(20, 20), (21, 21), (30, 21), (1001, 1)])
def test_only_the_first_of_many_reasons_are_spelled_out(tmp_path: Path, num_faults: int, num_reasons: int) -> None:
    more = {f"key{number}": 1 for number in range(num_faults)}
    with pytest.raises(InvalidAdapter) as caught:
        Reference.read(_write(tmp_path, {"form": "nf4", "rows": [ROW]} | more))
    reasons = caught.value.reasons
    assert len(reasons) == num_reasons
    rest = f"has {num_faults - 20} more faults" if num_faults <= 1000 else f"has {num_faults} faults, too many to name"
    assert (rest in reasons[-1].problem) == (num_faults > 20)


def test_the_reference_is_stored_with_the_version_and_part_of_its_digest(
    accept: Accept, base: Base, store: BlobStore, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "a", base=base)
    without = accept(folder)
    REFERENCE.write(folder)
    version = accept(folder)
    assert version.digest != without.digest
    assert Reference.read(store.materialize(version)) == REFERENCE
    Reference(form=REFERENCE.form, rows=REFERENCE.rows * 2).write(folder)
    assert accept(folder).digest not in (version.digest, without.digest)


def test_a_reference_must_fit_its_base_and_its_record(accept: Accept, base: Base, tmp_path: Path) -> None:
    foreign = make_adapter(tmp_path / "foreign")
    REFERENCE.write(foreign)
    with pytest.raises(InvalidAdapter, match=r"stands without graft\.json"):
        accept(foreign)
    other_form = make_adapter(tmp_path / "form", base=base)
    Reference(form=ServingForm.BF16, rows=REFERENCE.rows).write(other_form)
    with pytest.raises(InvalidAdapter, match="recorded on the base as bf16"):
        accept(other_form)
    beyond = make_adapter(tmp_path / "beyond", base=base)
    row = ReferenceRow(token_ids=(1, VOCABULARY), num_prompt_tokens=1, logprobs=(-1.0,))
    Reference(form=ServingForm.NF4, rows=(row,)).write(beyond)
    with pytest.raises(InvalidAdapter, match=f"{VOCABULARY} is no token id"):
        accept(beyond)


def test_a_no_op_and_an_adapter_of_another_base_are_refused_with_the_reason(
    accept: Accept, base: Base, tmp_path: Path
) -> None:
    """Names that match nothing would leave the base to answer; another base's adapter would answer nonsense."""
    unmatched = {
        name.replace("self_attn", "attention").replace("mlp", "ffn"): one for name, one in make_tensors().items()
    }
    with pytest.raises(IncompatibleAdapter, match="the base would answer instead"):
        accept(make_adapter(tmp_path / "noop", tensors=unmatched, base=base))
    other = make_base(tmp_path / "other", seed=9)
    with pytest.raises(IncompatibleAdapter) as caught:
        accept(make_adapter(tmp_path / "other-base", base=other))
    (reason,) = caught.value.reasons
    assert reason.field == "base.weights_digest"
    assert other.identity.weights_digest in reason.problem and base.identity.weights_digest in reason.problem


def test_a_tokenizer_that_alone_differs_is_named_alone(accept: Accept, base: Base, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", vocabulary="xyz")
    assert other.identity.weights_digest == base.identity.weights_digest
    with pytest.raises(IncompatibleAdapter) as caught:
        accept(make_adapter(tmp_path / "a", base=other))
    assert [reason.field for reason in caught.value.reasons] == ["base.tokenizer_digest"]
