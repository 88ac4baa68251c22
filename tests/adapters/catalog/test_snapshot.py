"""What references mean: pure, per tenant, by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.adapter import UNKNOWN_LINEAGE, AdapterVersion, Alias, Provenance
from graft.adapters.catalog.fine_tuned import FineTuned
from graft.adapters.catalog.snapshot import BARE_BASE, CatalogSnapshot
from graft.adapters.errors import InvalidReference, NotFound
from graft.adapters.form import ServingForm
from tests.adapters.making import REFERENCE

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _version(
    number: int, digest: str, *, adapter: str = "joe", tenant: str = "default", job: str | None = None
) -> AdapterVersion:
    return AdapterVersion(
        digest="sha256:" + (digest * 64)[:64],
        adapter=adapter,
        tenant=tenant,
        number=number,
        base=REFERENCE,
        form=ServingForm.NF4,
        rank=8,
        alpha=16.0,
        target_modules=("q_proj",),
        files=(),
        size_bytes=0,
        provenance=Provenance.TRAINED,
        lineage=replace(UNKNOWN_LINEAGE, job=job),
        create_time=NOW,
    )


def _alias(name: str, version: AdapterVersion, weight_percent: int = 0) -> Alias:
    return Alias(
        adapter=version.adapter,
        tenant=version.tenant,
        name=name,
        version_digest=version.digest,
        weight_percent=weight_percent,
        etag="e",
        update_time=NOW,
    )


def _snapshot(base_name: str, versions: Iterable[AdapterVersion], aliases: Iterable[Alias] = ()) -> CatalogSnapshot:
    return CatalogSnapshot(base_name=base_name).with_adapters((), versions, aliases, revision=1)


V1, V2, V3 = _version(1, "a", job="j1"), _version(2, "b", job="j2"), _version(3, "abc")
OTHERS = _version(1, "d", adapter="secret", tenant="acme")
SNAPSHOT = replace(
    _snapshot(
        "org/tiny-1",
        (V1, V2, V3, OTHERS),
        (_alias("stable", V1), _alias("canary", V2, 20), _alias("beta", V3, 30), _alias("stable", OTHERS)),
    ),
    fine_tuned={
        ("default", "j2"): FineTuned(
            suffix="mine", adapter="joe", version_digest=V2.digest, checkpoints={7: V1.digest, 9: V2.digest}
        ),
        ("default", "j3"): FineTuned(
            suffix="", adapter="joe", version_digest=None, why_not="it is running", checkpoints={1: V3.digest}
        ),
        ("default", "j4"): FineTuned(suffix="", adapter="joe", version_digest="sha256:" + "9" * 64),
        ("acme", "j9"): FineTuned(suffix="theirs", adapter="secret", version_digest=OTHERS.digest),
    },
)


@pytest.mark.parametrize("reference", ["org/tiny-1", "base"])
def test_the_bare_base(reference: str) -> None:
    assert SNAPSHOT.resolve(reference, draw=0.01) == BARE_BASE


@pytest.mark.parametrize(
    ("reference", "version", "alias"),
    [
        ("joe:stable", V1, "stable"),
        ("joe:canary", V2, "canary"),
        ("joe@1", V1, None),
        ("joe@2", V2, None),
        ("joe@" + V2.digest, V2, None),
        ("joe@" + "b" * 8, V2, None),
        ("joe@sha256:" + "b" * 10, V2, None),
        ("ft:org/tiny-1:default:mine:j2", V2, None),
        ("ft:org/tiny-1:default:mine:j2:ckpt-step-7", V1, None),
        ("ft:org/tiny-1:default:mine:j2:ckpt-step-007", V1, None),
        ("ft:org/tiny-1:default:mine:j2:canary", V2, "canary"),
        ("ft:org/tiny-1:default:mine:j2:stable", V1, "stable"),
        ("ft:org/tiny-1:default:mine:j2@3", V3, None),
        ("ft:org/tiny-1:default:mine:j2@" + "a" * 8, V1, None),
        ("ft:org/tiny-1:default::j3:ckpt-step-1", V3, None),
    ],
)
def test_references(reference: str, version: AdapterVersion, alias: str | None) -> None:
    resolved = SNAPSHOT.resolve(reference, draw=0.99)
    assert (resolved.adapter, resolved.version, resolved.alias) == ("joe", version, alias)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "jane",
        "secret",
        "secret@1",
        "joe:",
        "joe:x",
        "joe@9",
        "joe@" + "f" * 8,
        "ft:other::joe:",
        "ft:joe",
        "ft:",
        "ft:org/tiny-1:default:mine:unknown",
        "ft:org/tiny-1:default:other:j2",
        "ft:org/tiny-1::mine:j2",
        "ft:org/tiny-1:default:mine:j2:nothing",
        "ft:org/tiny-1:default:mine:j2:ckpt-step-8",
        "ft:org/tiny-1:default:mine:j2:ckpt-step-",
        "ft:org/tiny-1:default:mine:j2:ckpt-step-+7",
        "ft:org/tiny-1:default:mine:j2@9",
        "ft:org/tiny-1:default:mine:j2@1:stable",
        "ft:org/tiny-1:default::j3",
        "ft:org/tiny-1:default::j4",
        # Another tenant's, told by its own name and by the asking one's.
        "ft:org/tiny-1:acme:theirs:j9",
        "ft:org/tiny-1:default:theirs:j9",
        "../joe",
    ],
)
def test_unknown_references_do_not_name_what_others_own(reference: str) -> None:
    with pytest.raises(NotFound, match="does not exist") as caught:
        SNAPSHOT.resolve(reference)
    said = str(caught.value).replace(repr(reference), "")
    assert "acme" not in said and "secret" not in said and "theirs" not in said


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("ft:org/tiny-1:default::j3", "it is running"),
        ("ft:org/tiny-1:default:other:j2", "is called ft:org/tiny-1:default:mine:j2"),
        ("ft:org/tiny-1:default:mine:j2:ckpt-step-8", "the latest steps: 7, 9"),
        ("ft:org/tiny-1:default::j4", "was deleted"),
        ("ft:tiny-2:default::j4", "of this server is ft:org/tiny-1:<tenant>:<suffix>:<job>"),
        ("ft:org/tiny-1:default:mine:j2@1:stable", "not by both"),
    ],
)
def test_why_a_fine_tuned_model_does_not_answer(reference: str, words: str) -> None:
    with pytest.raises(NotFound, match="does not exist") as caught:
        SNAPSHOT.resolve(reference)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("selector", ["", "x", "-1", "1.0", "abcdefg", "aaaaaaa", "SHA256:" + "a" * 64, "１"])
def test_malformed_selectors(selector: str) -> None:
    with pytest.raises(InvalidReference, match="neither a number nor a digest"):
        SNAPSHOT.resolve(f"joe@{selector}")


def test_a_prefix_of_two_versions_is_refused() -> None:
    twin = replace(_version(4, "a"), digest="sha256:" + "a" * 63 + "b")
    with pytest.raises(NotFound, match="2 digests"):
        _snapshot("t", (V1, twin)).resolve("joe@" + "a" * 8)


def test_tenants_see_their_own() -> None:
    assert SNAPSHOT.resolve("secret", tenant="acme").version == OTHERS
    assert SNAPSHOT.resolve("ft:org/tiny-1:acme:theirs:j9", tenant="acme").version == OTHERS
    assert [name for tenant, name in SNAPSHOT.entries if tenant == "default"] == ["joe"]
    with pytest.raises(NotFound):
        SNAPSHOT.resolve("joe", tenant="acme")


def test_draws_below_the_weights_go_to_the_weighted_aliases() -> None:
    answers = Counter(SNAPSHOT.resolve("joe", draw=step / 1000).alias for step in range(1000))
    assert answers == {"beta": 300, "canary": 200, "stable": 500}


@given(st.floats(0, 1, exclude_max=True))
def test_a_full_canary_takes_every_draw(draw: float) -> None:
    full = _snapshot("t", (V1, V2), (_alias("stable", V1), _alias("canary", V2, 100)))
    assert full.resolve("joe", draw=draw).version == V2


def test_without_stable_the_bare_name_says_what_to_do() -> None:
    bare = _snapshot("t", (V1,))
    with pytest.raises(NotFound, match="joe@<number>"):
        bare.resolve("joe")


@given(st.text(max_size=60))
def test_no_text_does_more_than_resolve_or_be_refused(reference: str) -> None:
    try:
        SNAPSHOT.resolve(reference, draw=0.5)
    except (NotFound, InvalidReference):
        return
    assert reference in ("base", "org/tiny-1") or reference.startswith(("joe", "ft:"))


def test_reading_7_an_adapters_versions_and_aliases_are_found_without_a_look_at_all_others() -> None:
    """A list of a thousand adapters scanned every version for each, in the event loop."""
    for tenant, adapter in (("default", "joe"), ("acme", "secret"), ("acme", "joe")):
        mine = [one for one in SNAPSHOT.versions if (one.tenant, one.adapter) == (tenant, adapter)]
        aliases = [one for one in SNAPSHOT.aliases if (one.tenant, one.adapter) == (tenant, adapter)]
        assert set(SNAPSHOT.versions_of(tenant, adapter)) == set(mine)
        found = SNAPSHOT.aliases_of(tenant, adapter)
        assert [alias for alias, _ in found] == sorted(aliases, key=lambda one: one.name)
        assert all(alias.version_digest == version.digest for alias, version in found)
    blind = replace(SNAPSHOT, entries=SNAPSHOT.entries | {("acme", "secret"): None})  # type: ignore[operator]
    assert len(blind.versions_of("default", "joe")) == len(blind.aliases_of("default", "joe")) == 3
