"""The network, mount and process namespaces that a rehearsal lives in.

The network namespace has a name and is made and removed from outside; the others belong to the
process 1 of the rehearsal and end with it, and with them every mount and every process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.rehearsal import addresses, programs
from tests.rehearsal.errors import RehearsalError

NAMED = Path("/run/netns")
_KERNEL_MODULES = ("overlay", "br_netfilter")
# The kubelet would set these for the whole machine. It finds them as it wants them.
_KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def create_network(name: str) -> None:
    """Make a network namespace with no route out: it has nothing but its own loopback.

    Raises:
        RehearsalError: It could not be made.
    """
    if modprobe := shutil.which("modprobe", path=programs.SYSTEM_PATH):
        # Built in, or loaded already, on many machines; if not, the check for it comes later.
        subprocess.run([modprobe, "-a", *_KERNEL_MODULES], capture_output=True, check=False)
    with _alone():
        _run("ip", "netns", "add", name)


def remove_network(name: str) -> None:
    """Remove the network namespace, if it is there.

    Raises:
        RehearsalError: It could not be removed.
    """
    with _alone():
        if (NAMED / name).exists():
            _run("ip", "netns", "del", name)
        if NAMED.is_dir() and not any(NAMED.iterdir()):
            subprocess.run(["umount", NAMED], capture_output=True, check=False)
            NAMED.rmdir()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep another rehearsal from removing the directory of names while we add to it."""
    directory = os.open(NAMED.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def processes(name: str) -> set[int]:
    """Give the ids of the processes whose network namespace it is."""
    if not (NAMED / name).exists():
        return set()
    done = subprocess.run(
        [programs.find("ip"), "netns", "pids", name], capture_output=True, text=True, check=False
    )
    return {int(line) for line in done.stdout.split()}


def enter_argv(name: str) -> list[str]:
    """Give the start of a command that becomes process 1 in namespaces of its own.

    Not ``ip netns exec``: it mounts a new /sys, and the control groups mounted there are gone.
    """
    network = [programs.find("nsenter"), f"--net={NAMED / name}", "--"]
    flags = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
    return [*network, programs.find("unshare"), *flags, "--"]


def prepare_mounts(state: Path) -> None:
    """Hide, as process 1, what the daemons would write to on this machine.

    Raises:
        RehearsalError: A mount failed.
    """
    # A copy of another's network namespace, held here, would outlive its removal.
    subprocess.run(["umount", "--recursive", "--lazy", NAMED], capture_output=True, check=False)
    _run("mount", "--make-rshared", "/")
    resolver = Path("/etc/resolv.conf").resolve()
    for directory in ("/run", "/var/log"):
        _run("mount", "-t", "tmpfs", "tmpfs", directory)
    _bind(state / "varlib", "/var/lib")
    if resolver.is_relative_to("/run"):  # a link into what is hidden now
        resolver.parent.mkdir(parents=True, exist_ok=True)
        resolver.touch()
    _bind(state / "conf" / "resolv.conf", str(resolver))
    settings = state / "sysctl"
    settings.mkdir()
    for name, value in _KERNEL_SETTINGS.items():
        if Path("/proc/sys", name).exists():
            file = settings / name.replace("/", ".")
            file.write_text(f"{value}\n")
            _bind(file, f"/proc/sys/{name}")
    _run("mount", "--make-rshared", "/")


def prepare_network() -> None:
    """Give, as process 1, the network its one address and forward between pods.

    Raises:
        RehearsalError: The kernel lacks what pods need.
    """
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "addr", "add", f"{addresses.NODE}/32", "dev", "lo")
    # Else a service's address has no route, and the kernel gives up before it is translated.
    _run("ip", "route", "add", addresses.SERVICE_NETWORK, "dev", "lo", "src", addresses.NODE)
    settings = Path("/proc/sys/net")
    (settings / "ipv4" / "ip_forward").write_text("1")
    bridged = settings / "bridge" / "bridge-nf-call-iptables"
    if not bridged.exists():
        raise RehearsalError("br_netfilter: the kernel has no such module loaded; modprobe it")
    bridged.write_text("1")


def _bind(source: Path, target: str) -> None:
    _run("mount", "--bind", str(source), target)


def _run(program: str, *arguments: str) -> None:
    command: Sequence[str] = [programs.find(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RehearsalError(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")
