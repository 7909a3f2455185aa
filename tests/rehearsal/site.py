"""What a rehearsal that is up offers: names, files, credentials, and the way in."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rehearsal import addresses, namespaces, programs
from tests.rehearsal.s3 import S3Credentials

_FILE = "site.json"
_PATHS = ("state", "registry_config", "ca_file", "kubeconfig", "enter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A rehearsal that is up. Its names mean something only to what ``enter`` starts.

    Attributes:
        name: What it was called by its owner.
        node: Name of its Kubernetes node, network namespace and control groups.
        state: Directory of all that it keeps; its programs' logs are in ``logs``.
        registry: ``host:port`` of the registry, which speaks TLS and wants a login.
        registry_config: Directory with a ``config.json`` that logs in (``DOCKER_CONFIG``).
        ca_file: The private authority of registry, S3 and the ingress hosts.
        s3_endpoint: URL of the S3 server.
        s3_credentials: Its one identity.
        bucket: A bucket that is there, and empty at first.
        aws_endpoint: URL of the stand-in for ECR, EKS and STS.
        kubeconfig: The administrator's.
        enter: Program that runs its arguments inside.
    """

    name: str
    node: str
    state: Path
    registry: str
    registry_config: Path
    ca_file: Path
    s3_endpoint: str
    s3_credentials: S3Credentials = field(repr=False)
    bucket: str
    aws_endpoint: str
    kubeconfig: Path
    enter: Path

    @property
    def authfile(self) -> Path:
        """Give the registry's login as the file that skopeo takes as ``--authfile``."""
        return self.registry_config / "config.json"

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        text: str | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside, to its end, with both its outputs captured.

        Args:
            argv: The program and its arguments.
            check: Whether a status other than 0 is an error.
            env: Variables set on top of the environment, which is this process's without its
                proxies. None of ``environment()`` is set by itself.
            text: What it reads on standard input; nothing by default.
            cwd: Its working directory.
            timeout: Seconds until it is killed.

        Raises:
            subprocess.CalledProcessError: It failed; the message has the end of what it said.
            subprocess.TimeoutExpired: It took longer than ``timeout``.
        """
        done = subprocess.run(
            [self.enter, *argv],
            env={**os.environ, **(env or {})},
            input=text or "",
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise RunError(done.returncode, done.args, done.stdout, done.stderr)
        return done

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Run kubectl inside as administrator; gives what it wrote.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        kubectl = [programs.find_in_environment("kubectl"), f"--kubeconfig={self.kubeconfig}"]
        kubectl.append(f"--cache-dir={self.state / 'kubectl'}")
        return self.run([*kubectl, *arguments], text=text, check=check).stdout

    def variables(self) -> dict[str, str]:
        """Give what a shell script wants to know, by names that no tool reads but credentials."""
        return {
            "REHEARSAL_ENTER": str(self.enter),
            "REHEARSAL_STATE": str(self.state),
            "REHEARSAL_REGISTRY": self.registry,
            "REHEARSAL_AUTHFILE": str(self.authfile),
            "REHEARSAL_CA": str(self.ca_file),
            "REHEARSAL_S3_ENDPOINT": self.s3_endpoint,
            "REHEARSAL_BUCKET": self.bucket,
            "REHEARSAL_AWS_ENDPOINT": self.aws_endpoint,
            "REHEARSAL_KUBECONFIG": str(self.kubeconfig),
            "AWS_ACCESS_KEY_ID": self.s3_credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3_credentials.secret_key,
        }

    def environment(self) -> dict[str, str]:
        """Give the variables by which the usual tools find this site's servers and logins.

        Tools then trust the site's authority without being told: not for tests of a ``ca`` setting.
        """
        return {
            "KUBECONFIG": str(self.kubeconfig),
            # Not the user's: each rehearsal's API has the same address.
            "KUBECACHEDIR": str(self.state / "kubectl"),
            "DOCKER_CONFIG": str(self.registry_config),
            "REGISTRY_AUTH_FILE": str(self.authfile),
            "SSL_CERT_FILE": str(self.ca_file),
            "CURL_CA_BUNDLE": str(self.ca_file),
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
            "AWS_CA_BUNDLE": str(self.ca_file),
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "AWS_ENDPOINT_URL_ECR": self.aws_endpoint,
            "AWS_ENDPOINT_URL_EKS": self.aws_endpoint,
            "AWS_ENDPOINT_URL_STS": self.aws_endpoint,
            "AWS_REGION": addresses.REGION,
            "AWS_DEFAULT_REGION": addresses.REGION,
            "AWS_ACCESS_KEY_ID": self.s3_credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3_credentials.secret_key,
        }

    def save(self) -> None:
        """Write this down in the state directory, readable to its owner only."""
        path = self.state / _FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps(dataclasses.asdict(self), default=str, indent=1))

    @classmethod
    def load(cls, state: Path) -> Site:
        """Read what ``save`` wrote."""
        document: dict[str, Any] = json.loads((state / _FILE).read_text())
        for name in _PATHS:
            document[name] = Path(document[name])
        document["s3_credentials"] = S3Credentials(**document["s3_credentials"])
        return cls(**document)


class RunError(subprocess.CalledProcessError):
    """A program inside failed; unlike its parent, this says what the program said."""

    def __str__(self) -> str:
        said = (self.stderr or self.stdout or "").strip()[-2000:]
        return f"{super().__str__()}\n{said}"


def write_enter(path: Path, node: str, resolver: Path) -> None:
    """Write the program that runs its arguments inside: in the network, with the names there.

    It sees the machine's own files and processes, only /etc/resolv.conf is another one.
    """
    bind = 'mount --bind "$0" /etc/resolv.conf'
    path.write_text(
        "#!/bin/sh\n"
        f"# Runs a command in the network of {node}, where nothing leads out.\n"
        f"unset {' '.join(programs.PROXY_VARIABLES)}\n"
        '[ "$#" -gt 0 ] || set -- "${SHELL:-/bin/sh}"\n'
        f"exec nsenter --net={namespaces.NAMED / node} -- unshare --mount -- \\\n"
        f'    sh -c \'{bind} && exec "$@"\' {shlex.quote(str(resolver))} "$@"\n'
    )
    path.chmod(0o755)
