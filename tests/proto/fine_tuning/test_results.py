"""The result files of a job arrive together, or not at all."""

from __future__ import annotations

import argparse
from pathlib import Path

import grpc
import pytest

from graft.cli.commands import jobs
from graft.cli.failure import UserError
from graft.client.errors import NotFound, Unavailable
from graft.v1 import file_pb2, job_pb2


class Server:
    """With a job that left two files, of which some are gone."""

    def __init__(self, *, gone: tuple[str, ...] = ()) -> None:
        self.gone = gone
        self.breaks_at = ""

    def get_job(self, job: str) -> job_pb2.Job:
        return job_pb2.Job(id=job, result=job_pb2.JobResult(result_files=["file-1", "file-2"]))

    def get_file(self, file: str) -> file_pb2.File:
        if file in self.gone:
            raise NotFound(f"there is no {file}", code=grpc.StatusCode.NOT_FOUND)
        return file_pb2.File(id=file, filename=f"{file}.txt")

    def download_file(self, file: str, path: Path) -> None:
        if file == self.breaks_at:
            raise Unavailable("the server went away", code=grpc.StatusCode.UNAVAILABLE)
        path.write_text(file, encoding="utf-8")


def results(server: Server, folder: Path) -> str:
    return jobs._results(server, argparse.Namespace(job="ftjob-1", folder=str(folder)))[1]  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("is_there", [False, True])
def test_a_download_that_breaks_leaves_nothing_and_can_be_said_again(tmp_path: Path, is_there: bool) -> None:
    folder, server = tmp_path / "found", Server()
    if is_there:
        folder.mkdir()
        (folder / "own.txt").touch()
    before = names(tmp_path)
    server.breaks_at = "file-2"
    with pytest.raises(Unavailable):
        results(server, folder)
    assert names(tmp_path) == before and (not is_there or names(folder) == ["own.txt"])
    server.breaks_at = ""
    assert results(server, folder).splitlines() == [str(folder / "file-1.txt"), str(folder / "file-2.txt")]
    assert names(folder) == ["file-1.txt", "file-2.txt", *(["own.txt"] if is_there else [])]
    with pytest.raises(UserError, match="already there"):
        results(server, folder)


def test_what_is_gone_is_named(tmp_path: Path) -> None:
    text = results(Server(gone=("file-1",)), tmp_path / "found")
    assert "file-1 was deleted" in text and names(tmp_path / "found") == ["file-2.txt"]


def test_where_all_is_gone_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"file-1, file-2.*deleted"):
        results(Server(gone=("file-1", "file-2")), tmp_path / "found")
    assert not (tmp_path / "found").exists()
