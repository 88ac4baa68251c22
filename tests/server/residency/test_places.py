"""Soft prompts and LoRAs share ids and nothing else: neither kind waits or leaves for the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graft.server.residency.places import Places
from graft.server.residency.policy import Load, State, Unload

SLOTS, PROMPTS = 2, 3
DIGESTS = st.lists(
    st.sampled_from([f"{kind}{number}" for kind in ("lora", "soft") for number in range(5)]), max_size=40
)


def places() -> Places:
    return Places(num_slots=SLOTS, num_soft_prompts=PROMPTS, is_soft_prompt=lambda digest: digest.startswith("soft"))


@given(DIGESTS)
def test_a_kind_fills_its_own_places_only(asked: list[str]) -> None:
    both, ids = places(), []
    alone = {"lora": places(), "soft": places()}
    for digest in asked:
        for one in (both, alone[digest[:4]]):
            pending = list(one.of(digest).lease(digest))
            while pending:
                action = pending.pop(0)
                place = one.of(action.digest)
                if isinstance(action, Load):
                    ids += [action.engine_id] if one is both else []
                    pending += place.loaded(action.digest)
                else:
                    assert isinstance(action, Unload)
                    pending += place.unloaded(action.digest)
            if one.of(digest).engine_id(digest) is not None:
                one.of(digest).release(digest)
    assert len(ids) == len(set(ids))
    for kind, limit in (("lora", SLOTS), ("soft", PROMPTS)):
        held = [each.digest for each in both.view() if each.digest.startswith(kind)]
        assert held == [each.digest for each in alone[kind].view()] and len(held) <= limit


def test_what_is_wanted_is_loaded_each_in_its_place() -> None:
    both = places()
    actions = both.want(["lora1", "soft1", "lora2", "lora3", "soft2"], lambda held, wanted: False)
    assert [action.digest for action in actions] == ["lora1", "lora2", "soft1", "soft2"]
    assert {each.state for each in both.view()} == {State.LOADING}
