"""Where programs are, and which Debian package brings one that is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.rehearsal.errors import RehearsalError

ROOT = Path(__file__).resolve().parents[2]
CNI_PLUGINS = Path("/usr/lib/cni")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXY_VARIABLES = tuple(
    name
    for lower in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
    for name in (lower, lower.upper())
)
_KEPT_VARIABLES = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PYTHONDONTWRITEBYTECODE",
    "TMPDIR",
    "TZ",
)

PACKAGES = {
    "busybox": "busybox-static",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ctr": "containerd",
    "docker-registry": "docker-registry",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "util-linux",
    "nft": "nftables",
    "nsenter": "util-linux",
    "runc": "runc",
    "setpriv": "util-linux",
    "skopeo": "skopeo",
    "unshare": "util-linux",
}


def find(program: str) -> str:
    """Give the path of a program of the machine.

    Raises:
        RehearsalError: It is not installed; the message names its Debian package.
    """
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if path is None:
        package = PACKAGES.get(program, program)
        raise RehearsalError(f"{program}: no such program; apt-get install {package}")
    return path


def find_in_environment(program: str) -> str:
    """Give the path of a program that pip installed into this Python environment.

    Raises:
        RehearsalError: It is not there.
    """
    path = Path(sys.prefix, "bin", program)
    if not path.is_file():
        raise RehearsalError(f"{program}: not in {path.parent}; run scripts/setup")
    return str(path)


def require(programs: Iterable[str]) -> None:
    """Check that programs of the machine are installed, and the CNI plugins.

    Raises:
        RehearsalError: Some are missing; the message is the one command that installs them all.
    """
    missing = set()
    for program in programs:
        try:
            find(program)
        except RehearsalError:
            missing.add(PACKAGES.get(program, program))
    if not (CNI_PLUGINS / "bridge").is_file():
        missing.add("containernetworking-plugins")
    if missing:
        names = " ".join(sorted(missing))
        raise RehearsalError(f"programs are missing; apt-get install {names}")


def environment() -> dict[str, str]:
    """Give the environment of the rehearsal's programs: no proxies, credentials or settings."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {"PATH": f"{SYSTEM_PATH}:{os.environ.get('PATH', '')}", "PYTHONPATH": str(ROOT)}
