"""`python -m tests.tools.deploy`: the CPU image, built from its Containerfile, serves as the manifests promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx

from tests.running import free_port
from tests.tools.deploy.container import Container
from tests.tools.deploy.image import ROOT, Builder, Config, missing

FOLDER = ROOT / "build/check-deploy"
TOKEN, TENANTS = "token-of-the-check", "/run/secrets/tenants.yaml"
START_SECONDS, STOP_SECONDS = 1800.0, 45.0
_HEADERS = {"authorization": f"Bearer {TOKEN}"}
_BODY = {"model": "base", "messages": [{"role": "user", "content": "12+35?"}], "max_tokens": 40, "temperature": 0}
_COMPILER = re.compile(r"((.*-)?(gcc|g\+\+|cpp|cc|c\+\+|clang|ld|as|make|nvcc|ptxas)|pip\d?)(-?\d[\d.]*)?")
# What Kubernetes sets for a Service called graft, where service links are on.
_SERVICE = {
    "GRAFT_PORT": "tcp://10.0.0.1:8470",
    "GRAFT_SERVICE_HOST": "10.0.0.1",
    "GRAFT_SERVICE_PORT": "8470",
    "GRAFT_SERVICE_PORT_HTTP": "8471",
    "GRAFT_PORT_8470_TCP": "tcp://10.0.0.1:8470",
    "GRAFT_PORT_8470_TCP_ADDR": "10.0.0.1",
}


class Failed(Exception):
    """The image does not do what it should."""


def main() -> int:
    """0 where everything was shown."""
    if os.getuid() != 0 or missing():
        lacking = ["root's rights"] * (os.getuid() != 0) + missing()
        print(f"check-deploy: the image cannot be built here: it needs {', '.join(lacking)}", file=sys.stderr)
        return 1
    try:
        for shown in _check():
            print(f"  ✓ {shown}", flush=True)
    except (Failed, subprocess.CalledProcessError) as error:
        print(f"check-deploy: {error}", file=sys.stderr)
        return 1
    return 0


def _check() -> Iterator[str]:
    start = time.monotonic()
    builder = Builder(FOLDER)
    image = builder.build("cpu")
    config = builder.config(image)
    yield f"image: every step of the Containerfile ran on a bare Debian, {time.monotonic() - start:.0f} s"
    with builder.mounted(image) as root:
        yield from _files(root, config)
        yield from _caches(root, config)
        (root / TENANTS[1:]).parent.mkdir()
        (root / TENANTS[1:]).write_text(f"{TOKEN}: checker\n")
        log = FOLDER / "container.log"
        settings = {**_SERVICE, "GRAFT_TENANTS_FILE": TENANTS, "GRAFT_HOST": "127.0.0.1"}
        settings |= {"GRAFT_GRPC_PORT": str(free_port()), "GRAFT_HTTP_PORT": str(free_port())}
        command = [*config.entrypoint, *config.command]
        with Container(root, config, command, environment=settings, log=log) as container:
            try:
                yield from _serving(container, config, f"http://127.0.0.1:{settings['GRAFT_HTTP_PORT']}")
            except (Failed, httpx.HTTPError) as error:
                raise Failed(f"{error}\n{log.read_text(errors='replace')[-4000:]}") from None


def _files(root: Path, config: Config) -> Iterator[str]:
    folders = [root / folder.strip("/") for folder in config.environment["PATH"].split(":")]
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    compilers = sorted({path.name for path in found if _COMPILER.fullmatch(path.name)})
    _demand(not compilers, f"the image holds {compilers}")
    yield f"image: no compiler and no package manager of Python among {len(found)} programs"
    user = int(config.user.partition(":")[0])
    _demand(user > 0, "the image runs as root")
    outside = {root / folder.strip("/") for folder in config.volumes}
    writable = [path for path in _all(root) if path.lstat().st_uid == user and not outside & {path, *path.parents}]
    _demand(not writable, f"the image's user owns {writable[:5]}")
    yield f"image: user {config.user} owns nothing but {' and '.join(config.volumes)}"


def _caches(root: Path, config: Config) -> Iterator[str]:
    *begun, _ = config.entrypoint
    seed, caches = Path(begun[-1]).with_name("cache-seed"), config.environment["XDG_CACHE_HOME"]
    brought = [path.relative_to(root / str(seed)[1:]) for path in _all(root / str(seed)[1:]) if path.is_file()]
    _demand(bool(brought), f"the image has nothing in {seed}")
    compare = f'cd {seed} && find . -type f | xargs -I NAME cmp NAME "$XDG_CACHE_HOME"/NAME'
    others = tuple(folder for folder in config.volumes if folder != caches)
    for volume, volumes in (("a new", config.volumes), ("an old", config.volumes), ("no", others)):
        if volume == "an old":
            _write(root / caches[1:] / brought[0], "of an older image", owner=int(config.user.partition(":")[0]))
        log, changed = FOLDER / "caches.log", replace(config, volumes=volumes)
        with Container(root, changed, [*begun, "sh", "-c", compare], environment={}, log=log) as container:
            code = container.process.wait(timeout=START_SECONDS)
        told = log.read_text(errors="replace")
        _demand(code == 0, f"with {volume} volume at {caches} the entry point leaves caches incomplete: {told}")
        _demand(bool(told) == (volume == "no"), f"with {volume} volume at {caches} the entry point says: {told!r}")
    yield f"container: with a new, an old and no volume at {caches} its caches have the image's {len(brought)} files"


def _write(path: Path, text: str, *, owner: int) -> None:
    for folder in reversed([one for one in path.parents if not one.exists()]):
        folder.mkdir()
        os.chown(folder, owner, owner)
    path.write_text(text)
    os.chown(path, owner, owner)


def _serving(container: Container, config: Config, address: str) -> Iterator[str]:
    start = time.monotonic()
    _wait_until_ready(container, address)
    yield f"container: ready after {time.monotonic() - start:.0f} s, read-only, without rights, beside GRAFT_PORT=tcp://…"
    for folder in ("/", "/opt/graft", "/etc", "/run"):
        _demand(container.run("touch", f"{folder}/new").returncode != 0, f"{folder} can be written")
    health = container.run(*config.healthcheck)
    _demand(health.returncode == 0, f"the health check fails: {health.stderr}")
    shells = container.run("bash", "-lc", "graft --help && ray --version")
    _demand(shells.returncode == 0, f"a login shell finds no graft or ray: {shells.stderr}")
    yield "container: its health check passes, and a login shell finds graft and ray"
    before = _written(container, config)
    _demand(_chat(address, headers={}).status_code == 401, "a chat without a token is answered")
    answer = _chat(address, headers=_HEADERS)
    _demand(answer.status_code == 200, f"a chat is answered with {answer.status_code}: {answer.text}")
    text = answer.json()["choices"][0]["message"]["content"]
    _demand(bool(text), "a chat is answered with nothing")
    yield f"container: a chat by the tenant of a token in a file is answered: {text!r}"
    new = sorted(_written(container, config) - before)
    _demand(not new, f"requests made {new[:10]}")
    yield f"container: no request made a file in {' or '.join(config.volumes)}"
    yield from _ending(container, address)


def _ending(container: Container, address: str) -> Iterator[str]:
    begun, lines = threading.Event(), list[str]()

    def read() -> None:
        body = {**_BODY, "stream": True, "max_tokens": 200, "ignore_eos": True}
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, headers=_HEADERS, timeout=60) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    _demand(begun.wait(60), "no stream begins")
    code = container.stop(timeout=STOP_SECONDS)
    reader.join()
    _demand(code == 0, f"after SIGTERM the container ends with {code}")
    _demand("data: [DONE]" in lines, f"SIGTERM broke a stream off: {lines[-3:]}")
    yield f"container: SIGTERM reaches the server: a stream of {len(lines)} lines ends whole, exit code 0"


def _chat(address: str, *, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{address}/v1/chat/completions", json=_BODY, headers=headers, timeout=60)


def _wait_until_ready(container: Container, address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        _demand(container.process.poll() is None, f"the container ended with {container.process.returncode}")
        try:
            if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise Failed(f"the container was not ready after {START_SECONDS:g} s")


def _written(container: Container, config: Config) -> set[str]:
    """The files of the volumes. The catalog's journal comes and goes with its writes."""
    found = container.run("find", *config.volumes, "-type", "f").stdout.split("\n")
    return {path for path in found if not path.endswith(("-journal", "-wal", "-shm"))}


def _all(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        yield from (Path(folder) / name for name in (*folders, *files))


def _demand(held: bool, problem: str) -> None:
    if not held:
        raise Failed(problem)


if __name__ == "__main__":
    sys.exit(main())
