"""The calls to AWS that have no server to be had: ECR's, EKS's and STS's, answered by moto.

A stand-in: it keeps no rights and pulls no images. Checksums of S3 are not its business either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from tests.rehearsal import addresses, programs
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.serving import LOOPBACK, free_ports, running, scratch_state

# No real account has these; moto asks for none in particular.
CREDENTIALS = MappingProxyType({"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"})

# What moto 5 gives as ECR's password for its one account (moto/ecr/responses.py): the site's
# registry asks for the same, so that `aws ecr get-login-password | skopeo login` opens it.
ECR_PASSWORD = "123456789012-auth-token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """A running stand-in for AWS.

    Attributes:
        host: Its IP address.
        port: Its TCP port.
        url: Endpoint URL of every service.
        region: Any would do; this is the one that the rehearsal uses.
    """

    host: str
    port: int
    url: str
    region: str


@contextlib.contextmanager
def aws() -> Iterator[Aws]:
    """Run the stand-in on a free port of loopback while the block lasts.

    Raises:
        RehearsalError: It did not start, or is not installed.
    """
    with scratch_state("aws") as state:
        [port] = free_ports(1)
        with running([daemon(LOOPBACK, port)], state):
            url = f"http://{LOOPBACK}:{port}"
            yield Aws(host=LOOPBACK, port=port, url=url, region=addresses.REGION)


def daemon(host: str, port: int) -> Daemon:
    """Configure the stand-in to listen on one address."""
    return Daemon(
        name="aws",
        argv=[programs.find_in_environment("moto_server"), "-H", host, "-p", str(port)],
        ready=f"tcp://{host}:{port}",
    )
