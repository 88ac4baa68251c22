"""Alert rules and dashboard: every series is exported, every alert fires for its fault and for no other state."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml

from tests.running import Server, free_port
from tests.tools.deploy import promql

MONITORING = Path(__file__).parents[2] / "deploy/monitoring"
_CLOSED = {
    "job": {"graft"},
    "instance": {"$instance"},
    "state": {"validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"},
    "outcome": {"ok", "failed", "passed", "unmeasured", *(code.name.lower() for code in grpc.StatusCode)},
}
"""Values of labels, by label: outcomes are those of requests (gRPC's codes) and of parity checks."""


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression of everything that the dashboard draws."""
    for panel in json.loads((MONITORING / "grafana/graft.json").read_text())["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))


def expressions() -> list[str]:
    return [*(rule["expr"] for rule in alerts()), *(expression for _, expression in panels())]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (instance, le) (rate(a_bucket{x=~"b|c"}[5m])) > 0.05', {"a_bucket"}),
        ('vllm:a_b{job="graft"} / on (instance) group_left (node) c offset 5m', {"vllm:a_b", "c"}),
        ("deriv(a[1h]) * 60 > 1e6 and b unless on() c", {"a", "b", "c"}),
        ('histogram_quantile(0.99, sum(rate(a{instance=~"$i"}[$__rate_interval])))', {"a"}),
    ],
)
def test_the_series_of_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert promql.series(expression) == names


def test_every_series_is_exported_by_a_running_server(server: Server) -> None:
    text = httpx.get(f"{server.http}/metrics").text
    exported = {"up"}  # Prometheus' own
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            exported |= {f"{name}{part}" for part in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    missing = {name: one for one in expressions() for name in promql.series(one) if name not in exported}
    assert not missing


def test_labels_are_asked_for_values_that_they_can_have() -> None:
    asked = {pair for one in expressions() for pair in promql.matchers(one)}
    assert asked
    assert not {(label, value) for label, value in asked if value not in _CLOSED[label]}


def test_the_rules_are_prometheus_rules() -> None:
    done = promtool("check", "rules", str(MONITORING / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    done = promtool("check", "config", str(MONITORING / "prometheus.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_for_its_fault_and_says_what_to_do(repository: Path) -> None:
    cases = repository / "tests/deploy/alerts_test.yaml"
    tried = {test["name"] for test in yaml.safe_load(cases.read_text())["tests"]} - {"well"}
    assert tried == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description"} and rule["labels"]["severity"]
    done = promtool("test", "rules", str(cases))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_draws_each_panel_once_and_side_by_side() -> None:
    board = json.loads((MONITORING / "grafana/graft.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    places = set[tuple[int, int]]()
    for panel in board["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & places and max(x for x, _ in own) < 24
        places |= own
    assert all(panel["type"] == "row" or panel["targets"] for panel in board["panels"])


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Asks a Prometheus that has our configuration and has scraped the session's server twice."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / "alerts.yaml")]
    (graft,) = (one for one in config["scrape_configs"] if one["job_name"] == "graft")
    graft["static_configs"] = [{"targets": [server.http.removeprefix("http://")]}]
    config["scrape_configs"] = [graft]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    flags = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        command = ["prometheus", *flags, f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60) as client:
            _wait_for_samples(client, process, folder / "log")
            yield client
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_for_samples(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            if _value(client, "count_over_time(up[5m])") >= 2:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"prometheus did not scrape the server: {log.read_text()[-2000:]}")


def _value(client: httpx.Client, expression: str) -> float:
    """0 where there is none, and while Prometheus reads its log (503)."""
    answer = client.get("query", params={"query": expression})
    result = answer.json()["data"]["result"] if answer.is_success else []
    return float(result[0]["value"][1]) if result else 0.0


def test_prometheus_answers_what_the_dashboard_asks(prometheus: httpx.Client) -> None:
    known = prometheus.get("metadata").json()["data"]
    for title, expression in panels():
        asked = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
        answer = prometheus.get("query", params={"query": asked}).json()
        assert answer["status"] == "success", f"{title}: {answer}"
        unknown = [name for name in promql.series(expression) if name.removesuffix("_bucket") not in known]
        assert not unknown, f"{title}: Prometheus knows no {unknown}"


def test_no_alert_fires_for_a_server_that_is_well(prometheus: httpx.Client) -> None:
    groups = prometheus.get("rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(alerts())
    assert {rule["name"]: rule["health"] for rule in rules if rule["health"] not in ("ok", "unknown")} == {}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
