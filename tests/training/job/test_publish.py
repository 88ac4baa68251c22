"""What is said to a server before and while it is handed something."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from graft.training.errors import ConfigurationError
from graft.training.job.publish import check_server
from tests.proto.scripted_server import Script, abort, serving


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    with serving(script) as address:
        yield address


def test_the_token_of_the_environment_is_sent(target: str, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_TOKEN", "ann-7Q==")
    check_server(target)
    assert script.tokens == ["Bearer ann-7Q=="]


def test_a_server_that_does_not_know_the_caller_is_told_from_one_that_is_not_there(
    target: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAFT_TOKEN", raising=False)
    script.fault = lambda context: abort(context, grpc.StatusCode.UNAUTHENTICATED, "authorization: is missing")
    with pytest.raises(ConfigurationError, match=r"is missing.*GRAFT_TOKEN"):
        check_server(target)


def test_a_token_that_is_none_is_a_mistake_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_TOKEN", "s3cret x")
    with pytest.raises(ConfigurationError, match="GRAFT_TOKEN: a token has letters") as caught:
        check_server("localhost:1")
    assert "s3cret" not in str(caught.value)
