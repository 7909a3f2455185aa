"""S3 servers that refuse wrong checksums: SeaweedFS, as its four programs, and MinIO; and a sink.

One process would do (``weed server``), but it sleeps between its parts: 3.2 s until it serves
instead of 0.7 s, and it leaves sockets in /tmp.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.rehearsal import addresses, go_build, programs
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.go_programs import MINIO, SINK
from tests.rehearsal.minio import minio_daemon
from tests.rehearsal.serving import LOOPBACK, free_ports, running, scratch_state

Kind = Literal["seaweedfs", "minio", "sink"]

ACCESS_KEY = "REHEARSALACCESSKEY"
_REQUEST_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Credentials:
    """The one identity of a server; it may do everything."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """A running S3 server.

    Attributes:
        kind: Whose program it is.
        host: Its IP address.
        port: Its TCP port.
        url: Endpoint URL.
        region: What to sign requests for.
        ca_file: Authority that its certificate is of; None without TLS.
        credentials: What it accepts; anything else is refused.
        filer: Where buckets are made without signing a request; empty where there is no such place.
    """

    kind: Kind
    host: str
    port: int
    url: str
    region: str
    ca_file: Path | None
    credentials: S3Credentials
    filer: str

    def create_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        if self.filer:
            create_bucket(self.filer, name)
        else:
            _create_by_request(self, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the four programs listen: TCP ports for (HTTP, gRPC) each."""

    host: str
    port: int
    master: tuple[int, int]
    volume: tuple[int, int]
    filer: tuple[int, int]
    grpc: int

    @property
    def filer_url(self) -> str:
        """Give the filer's address; it listens on loopback only."""
        return f"http://{LOOPBACK}:{self.filer[0]}"


@contextlib.contextmanager
def s3(
    kind: Kind = "seaweedfs", *, tls: bool = False, buckets: Sequence[str] = (addresses.BUCKET,)
) -> Iterator[S3]:
    """Run an S3 server on a free port of loopback while the block lasts.

    Args:
        kind: Whose; the sink counts what it gets, keeps no content, and looks at no signature.
        tls: Whether it has a certificate, of an authority that nobody knows yet.
        buckets: Names of the buckets that are there from the start.

    Raises:
        RehearsalError: It did not start, or is not installed, or not compiled.
    """
    with scratch_state("s3") as state:
        ports = free_ports(8)
        layout = Layout(
            host=LOOPBACK,
            port=ports[0],
            grpc=ports[1],
            master=(ports[2], ports[3]),
            volume=(ports[4], ports[5]),
            filer=(ports[6], ports[7]),
        )
        ca_file, pair = _certificates(state) if tls else (None, ())
        credentials = S3Credentials(access_key=ACCESS_KEY, secret_key=secrets.token_urlsafe(24))
        server = S3(
            kind=kind,
            host=layout.host,
            port=layout.port,
            url=f"{'https' if tls else 'http'}://{layout.host}:{layout.port}",
            region=addresses.REGION,
            ca_file=ca_file,
            credentials=credentials,
            filer=layout.filer_url if kind == "seaweedfs" else "",
        )
        if kind == "seaweedfs":
            wanted = daemons(state, layout, credentials, pair=pair, buckets=buckets)
        else:
            wanted = [_one_program(state, server, pair or None)]
        with running(wanted, state):
            if kind != "seaweedfs":
                for name in buckets:
                    server.create_bucket(name)
            yield server


def program(kind: Kind) -> str:
    """Give the path of a server's executable.

    Raises:
        RehearsalError: It is not installed, or not compiled yet.
    """
    if kind == "seaweedfs":
        return programs.find_in_environment("weed")
    return str(go_build.find({"minio": MINIO, "sink": SINK}[kind]))


def _one_program(state: Path, server: S3, pair: tuple[Path, Path] | None) -> Daemon:
    address, keys = f"{server.host}:{server.port}", server.credentials
    if server.kind == "sink":
        argv = [program("sink"), address, *map(str, pair or ())]
        return Daemon(name="sink", argv=argv, ready=f"tcp://{address}")
    return minio_daemon(
        state, address, access_key=keys.access_key, secret_key=keys.secret_key, pair=pair
    )


def _certificates(state: Path) -> tuple[Path, tuple[Path, Path]]:
    from tests.rehearsal.certificates import Authority  # takes longer than the server's start

    authority = Authority(state, "ca")
    pair = authority.issue("server", subject="s3", names=[LOOPBACK])
    return authority.file, (pair.certificate, pair.key)


def daemons(
    state: Path,
    layout: Layout,
    credentials: S3Credentials,
    *,
    pair: tuple[Path, Path] | tuple[()],
    buckets: Sequence[str],
) -> list[Daemon]:
    """Configure the four programs, and the making of the buckets.

    Args:
        state: Directory for objects and configuration.
        layout: Where they listen.
        credentials: The one identity.
        pair: Files of certificate and key; empty without TLS.
        buckets: Names of the buckets that are there from the start.
    """
    data = state / "s3"
    data.mkdir()
    identities = data / "identities.json"
    identities.touch(mode=0o600)
    identities.write_text(json.dumps(_identities(credentials)))
    tls = (f"-cert.file={pair[0]}", f"-key.file={pair[1]}") if pair else ()
    make_buckets = [sys.executable, "-m", "tests.rehearsal.s3", layout.filer_url, *buckets]
    return [
        _master(data, layout),
        _filer(data, layout),
        _volume(data, layout),
        _gateway(data, layout, f"-config={identities}", *tls),
        Daemon(name="s3-buckets", argv=make_buckets, after=["s3-filer"], once=True),
    ]


def _master(data: Path, layout: Layout) -> Daemon:
    flags = (f"-mdir={data}", "-peers=none", "-telemetry=false", "-volumeSizeLimitMB=4096")
    return Daemon(
        name="s3-master",
        argv=_weed("master", layout.master, f"-ip={LOOPBACK}", *flags),
        ready=f"http://{LOOPBACK}:{layout.master[0]}/cluster/status",
        # One volume for each bucket at first, not seven: tests make many small buckets.
        environment={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
    )


def _volume(data: Path, layout: Layout) -> Daemon:
    flags = (f"-dir={data}", f"-master={_peer(layout.master)}", "-max=1000")
    return Daemon(
        name="s3-volume",
        argv=_weed("volume", layout.volume, f"-ip={LOOPBACK}", *flags),
        after=["s3-master"],
        # Answered as soon as the master knows of a volume server with room.
        ready=f"http://{LOOPBACK}:{layout.master[0]}/dir/assign",
    )


def _filer(data: Path, layout: Layout) -> Daemon:
    flags = (f"-defaultStoreDir={data}", f"-localSocket={data}/filer.sock")
    master = f"-master={_peer(layout.master)}"
    return Daemon(
        name="s3-filer",
        argv=_weed("filer", layout.filer, f"-ip={LOOPBACK}", master, *flags),
        after=["s3-master"],
        ready=f"{layout.filer_url}/",
    )


def _gateway(data: Path, layout: Layout, *flags: str) -> Daemon:
    # Without these it serves other protocols too, and makes buckets that are not there.
    only_s3 = ("-port.iceberg=0", "-port.lance=0", "-autoCreateBucket=false")
    filer = (f"-filer={_peer(layout.filer)}", f"-localSocket={data}/s3.sock")
    return Daemon(
        name="s3-gateway",
        argv=_weed("s3", (layout.port, layout.grpc), *only_s3, *filer, *flags, host=layout.host),
        after=["s3-filer"],
        ready=f"tcp://{layout.host}:{layout.port}",
    )


def _create_by_request(server: S3, name: str) -> None:
    """Make an empty bucket, as any S3 server does it."""
    import boto3  # loads slowly, and SeaweedFS needs none of it

    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=server.region,
        verify=str(server.ca_file) if server.ca_file else None,
        aws_access_key_id=server.credentials.access_key,
        aws_secret_access_key=server.credentials.secret_key,
    )
    client.create_bucket(Bucket=name)


def _peer(ports: tuple[int, int]) -> str:
    return f"{LOOPBACK}:{ports[0]}.{ports[1]}"


def _weed(part: str, ports: tuple[int, int], *flags: str, host: str = LOOPBACK) -> list[str]:
    where = (f"-ip.bind={host}", f"-port={ports[0]}", f"-port.grpc={ports[1]}")
    return [programs.find_in_environment("weed"), "-logtostderr=true", part, *where, *flags]


def _identities(credentials: S3Credentials) -> dict[str, object]:
    keys = {"accessKey": credentials.access_key, "secretKey": credentials.secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "rehearsal", "credentials": [keys], "actions": actions}]}


def create_bucket(filer: str, name: str) -> None:
    """Make an empty bucket: to this server, a directory of its filer."""
    request = urllib.request.Request(f"{filer}/buckets/{name}/", method="POST")
    with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS):
        pass


if __name__ == "__main__":
    for bucket in sys.argv[2:]:
        create_bucket(sys.argv[1], bucket)
