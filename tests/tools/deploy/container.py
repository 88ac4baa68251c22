"""A container of an unpacked image, as strict as the manifests ask: a read-only root, no rights, one user.

Made of Linux's namespaces by util-linux alone, so that it needs no container engine, no cgroups and no service. The
network is this machine's. Nothing of it outlives the process that made it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.tools.deploy.image import Config

# Volumes are tmpfs that begin with the image's files, as named volumes do; temporary folders are empty; all else is
# read-only, a folder that the image calls a volume, too, where `volumes` of the configuration leaves it out.
_INSIDE = """
root=$1 volumes=$2; shift 2
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
for folder in $volumes; do
  new=$(mktemp -d); mount -t tmpfs tmpfs "$new"; cp --archive "$root$folder/." "$new"
  mount --move "$new" "$root$folder"; rmdir "$new"
done
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom; do
  touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"; mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -o remount,ro "$root/dev"
mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"
for file in /etc/resolv.conf /etc/hosts; do [ ! -e "$root$file" ] || mount -o bind,ro "$file" "$root$file"; done
exec chroot "$root" /usr/bin/env -i "$@"
"""


class Container:
    """A running container; as a context it is ended, by force where it must be."""

    def __init__(
        self, root: Path, config: Config, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self._config, self._environment = config, {**config.environment, **environment}
        user, _, group = config.user.partition(":")
        self._dropped = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        self._dropped += ["--bounding-set=-all", "--inh-caps=-all"]
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        inside = ["bash", "-euc", _INSIDE, "_", str(root), " ".join(config.volumes)]
        namespaces = ["unshare", "--kill-child", "--mount", "--ipc", "--pid", "--fork", "--propagation", "private"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*namespaces, *inside, f"--chdir={config.folder}", *variables, *self._dropped, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def first(self) -> int:
        """The process id here of the container's first process."""
        (child,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(child)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command beside the first process, with its user, its rights and its variables."""
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        entered = ["nsenter", f"--target={self.first}", "--mount", "--ipc", "--pid", "--root", "--wd"]
        rest = ["/usr/bin/env", "-i", *variables, *self._dropped, *command]
        return subprocess.run([*entered, *rest], capture_output=True, text=True, check=False)

    def stop(self, *, timeout: float) -> int:
        """SIGTERM to the first process, as every container engine sends it; its exit code. Raises `TimeoutExpired`."""
        os.kill(self.first, signal.SIGTERM)
        return self.process.wait(timeout=timeout)
