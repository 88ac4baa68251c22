"""Models of a hub: fetched by name, kept at their commit, and refused in one sentence that says what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.adapters.base import hub_download
from graft.adapters.base.base import Base, find_base
from graft.adapters.base.hub import FILE_NAME, Hub
from graft.adapters.base.hub_id import HubId, shown
from graft.adapters.errors import NotFound, StoreFull
from tests.adapters.base.local_hub import LocalHub, Repository, running, use
from tests.adapters.making import make_base

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub with one repository, `oaks/oak`, on whose main branch a tiny base lies beside what nobody needs."""
    monkeypatch.chdir(tmp_path)
    with running() as local:
        unneeded = dict.fromkeys(
            ("pytorch_model.bin", "oak.gguf", "original/consolidated.00.pth", "consolidated.safetensors",
             "onnx/model.safetensors", "onnx/config.json", "modeling_oak.py", ".gitattributes"),
            b"unneeded",
        )  # fmt: skip
        repository = Repository()
        repository.commit(make_base(tmp_path / "made").path, further=unneeded)
        local.repositories["oaks/oak"] = repository
        use(local, tmp_path / "cache", monkeypatch)
        yield local


def sayings() -> tuple[list[str], Hub]:
    said: list[str] = []
    return said, Hub(say=said.append)


def test_names_of_a_hub_are_told_from_others() -> None:
    for text in ("org/name", "org/name@main", "org/name@refs/pr/4", f"org/na.me-1@{COMMIT}"):
        assert str(HubId.parse(text)) == text
    for text in (
        "name",
        "./org/name",
        "/org/name",
        "../org/name",
        "~/name",
        "a/b/c",
        "org/name@",
        "org/",
        "org name/x",
    ):
        assert HubId.parse(text) is None


def test_a_snapshot_in_the_cache_is_known_by_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--oaks--red-oak" / "snapshots" / COMMIT
    assert HubId.of_folder(folder) == HubId(repository="oaks/red-oak", revision=COMMIT)
    assert shown(folder) == f"oaks/red-oak@{COMMIT}" and shown(tmp_path / "oak") == "oak"
    for other in (folder.parent / "main", tmp_path / COMMIT, tmp_path / "oaks" / "snapshots" / COMMIT):
        assert HubId.of_folder(other) is None


def test_only_what_a_base_needs_is_fetched(hub: LocalHub, base: Base) -> None:
    said, ours = sayings()
    folder = find_base("oaks/oak", hub=ours)
    commit = hub.repositories["oaks/oak"].branches["main"]
    assert folder.name == commit
    assert hub.sent == {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    found = Base.from_folder(folder)
    assert (found.name, found.digest) == ("oaks/oak", base.digest)
    assert "is fetched from the model hub" in said[0] and "in 4 files" in said[0]
    assert f"oaks/oak is taken at commit {commit}" in said[-1]


@pytest.mark.parametrize(("rank", "speaks"), [(None, True), ("0", True), ("3", False)])
def test_of_many_processes_on_a_machine_one_speaks(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str | None, speaks: bool
) -> None:
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    find_base("oaks/oak", hub=Hub())
    assert ("is taken at commit" in capsys.readouterr().err) == speaks


def test_a_second_start_takes_the_same_commit_though_the_branch_moved(hub: LocalHub, tmp_path: Path) -> None:
    pins = tmp_path / "job" / FILE_NAME
    first = find_base("oaks/oak", hub=Hub(pins=pins))
    moved = hub.repositories["oaks/oak"].commit(make_base(tmp_path / "newer", seed=1).path)
    assert json.loads(pins.read_text()) == {"oaks/oak": first.name}
    hub.asked.clear()
    assert find_base("oaks/oak", hub=Hub(pins=pins)) == first
    assert not hub.asked, "the commit is in the cache: nothing need be asked"
    assert find_base("oaks/oak@main", hub=Hub(pins=pins)).name == moved
    assert find_base("oaks/oak", hub=Hub(pins=pins)).name == moved
    assert find_base(f"oaks/oak@{first.name}", hub=Hub(pins=pins)) == first


@pytest.mark.parametrize("text", ["{", "[]", '{"oaks/oak": 1}'])
def test_a_file_of_commits_that_is_broken_is_no_word_that_nothing_was_taken(
    hub: LocalHub, tmp_path: Path, text: str
) -> None:
    (pins := tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(NotFound, match=rf"{FILE_NAME} does not say which commits were taken before.*remove it"):
        find_base("oaks/oak", hub=Hub(pins=pins))
    assert not hub.asked and pins.read_text() == text


def test_a_registered_base_that_the_cache_lost_is_fetched_at_its_commit(hub: LocalHub, tmp_path: Path) -> None:
    registered = Base.from_folder(find_base("oaks/oak", hub=Hub()))
    hub.repositories["oaks/oak"].commit(make_base(tmp_path / "newer", seed=1).path)
    shutil.rmtree(tmp_path / "cache")
    assert find_base("oaks/oak", [registered], hub=Hub()) == registered.path
    assert (registered.path / "model.safetensors").is_file()


@pytest.mark.parametrize("offline", [True, False], ids=["HF_HUB_OFFLINE", "nothing answers"])
def test_without_a_network_the_cache_serves(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    folder = find_base("oaks/oak", hub=Hub())
    use(None, tmp_path / "cache", monkeypatch, offline=offline)
    assert find_base("oaks/oak", hub=Hub()) == folder
    assert find_base(f"oaks/oak@{folder.name}", hub=Hub()) == folder
    with pytest.raises(NotFound) as caught:
        find_base("oaks/elm", hub=Hub())
    said = str(caught.value)
    assert "does not hold it whole" in said and "\n" not in said
    assert ("HF_HUB_OFFLINE is set" if offline else "it cannot be reached") in said


def test_half_a_snapshot_is_no_base_without_a_network(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find_base("oaks/oak", hub=Hub())
    (folder / "model.safetensors").unlink()
    use(None, tmp_path / "cache", monkeypatch, offline=True)
    with pytest.raises(NotFound, match="does not hold it whole"):
        find_base(f"oaks/oak@{folder.name}", hub=Hub())


def test_a_gated_model_needs_its_terms_accepted_and_a_token(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["oaks/oak"].gated, hub.repositories["oaks/oak"].token = True, "hf_right"
    with pytest.raises(NotFound) as caught:
        find_base("oaks/oak", hub=Hub())
    said = str(caught.value)
    assert f"accepted its terms at {hub.url}/oaks/oak" in said and "HF_TOKEN" in said and "hf auth login" in said
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(NotFound, match="the token is not valid there"):
        find_base("oaks/oak", hub=Hub())
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "cache" / "token").write_text("hf_right")
    assert find_base("oaks/oak", hub=Hub()).is_dir()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oaks/elm", "no folder is called oaks/elm, and the model hub did not give oaks/elm: there is no repository"),
        ("oaks/oak@v9", "it has no branch, tag or commit v9"),
        ("oaks/o--k", "that is no name of a repository"),
    ],
)
def test_what_the_hub_has_not_is_said_in_one_sentence(hub: LocalHub, name: str, words: str) -> None:
    with pytest.raises(NotFound) as caught:
        find_base(name, hub=Hub())
    assert words in str(caught.value).replace(f"such repository at {hub.url}/oaks/elm", "repository")
    assert "\n" not in str(caught.value)


def test_a_folder_of_that_name_comes_first_and_is_said(hub: LocalHub, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "oaks" / "oak", seed=5).path
    said, ours = sayings()
    assert find_base("oaks/oak", hub=ours) == folder and not said and not hub.asked
    (tmp_path / "cache" / "models--oaks--oak").mkdir(parents=True)
    assert find_base("oaks/oak", hub=ours) == folder
    assert "oaks/oak is a folder here, which is taken" in said[0]


def test_what_does_not_fit_is_refused_before_it_is_fetched(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 100))
    with pytest.raises(StoreFull, match=r"kB are needed, and 100 bytes are free .* HF_HUB_CACHE"):
        find_base("oaks/oak", hub=Hub())
    assert not hub.sent


def test_a_disk_that_fills_meanwhile_is_said(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(StoreFull, match="No space left on device; make room"):
        find_base("oaks/oak", hub=Hub())


def test_a_long_download_tells_how_far_it_is(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    seen = hub_download.threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if " of " in line:
            seen.set()

    def slow(*args: object, **options: object) -> None:
        assert seen.wait(60)
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", slow)
    name = HubId(repository="oaks/oak")
    with pytest.raises(NotFound, match="try again, files that came whole are kept"):
        hub_download.download(name, files=["*"], left_out=[], say=say, say_every_seconds=0.001)
    assert any(line.startswith("oaks/oak: 0 bytes of ") for line in said)


def test_a_download_that_broke_off_goes_on_where_it_was(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.stop_after_bytes = 8000
    folder = find_base("oaks/oak", hub=Hub())
    whole = tmp_path / "made" / "model.safetensors"
    assert whole.stat().st_size > hub.stop_after_bytes
    assert (folder / "model.safetensors").read_bytes() == whole.read_bytes()
    assert any(line == "Range: bytes=8000-" for line in hub.asked)


def test_files_that_came_whole_are_not_fetched_again(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.stop_after_bytes = 8000
    with pytest.raises(NotFound, match="files that came whole are kept"):
        find_base("oaks/oak", hub=Hub())
    hub.stop_after_bytes = None
    hub.asked.clear()
    assert Base.from_folder(find_base("oaks/oak", hub=Hub())).digest == Base.from_folder(tmp_path / "made").digest
    assert hub.sent == {"model.safetensors"}
