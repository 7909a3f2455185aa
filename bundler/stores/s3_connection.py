"""Connections to S3 that wait for a slow server, and send nothing to one that has answered.

urllib3 holds all that it sends to the time that is meant for connecting. And of a body that the
server refused before it saw any of it, in answer to ``Expect: 100-continue``, the client library
sends nothing, but has it read to its end all the same.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# The library names no way to choose connections; where it moves this, every client fails to open.
_pools_of = attrgetter("_endpoint.http_session._pool_classes_by_scheme")


class _Plain(AWSHTTPConnection):
    """A connection.

    Attributes:
        idle: Seconds in which the server must take the next piece of what is sent.
    """

    idle: float | None
    _response_received: bool  # the library's: the answer was there before the body was sent

    def request(self, *args: Any, **more: Any) -> Any:  # noqa: ANN401 (as urllib3 has it)
        if self.sock is None:
            self.connect()
        self.timeout = self.idle  # is given to the socket before anything is sent
        return super().request(*args, **more)

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:  # noqa: ANN401 (as http.client has it)
        super().endheaders(message_body, encode_chunked=encode_chunked)
        if self._response_received:
            raise BrokenPipeError  # urllib3 takes it for what it is: the answer can be read


class _Tls(_Plain, AWSHTTPSConnection):  # type: ignore[misc] # as the stubs have it of its bases
    """The same with TLS: what ``_Plain`` does not do, AWSHTTPSConnection does."""


class _PlainPool(AWSHTTPConnectionPool):
    ConnectionCls = _Plain

    def _new_conn(self) -> _Plain:
        made = cast("_Plain", super()._new_conn())
        made.idle = self.timeout.read_timeout
        return made


class _TlsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _Tls

    def _new_conn(self) -> _Tls:
        made = cast("_Tls", super()._new_conn())
        made.idle = self.timeout.read_timeout
        return made


def be_patient(client: S3Client) -> None:
    """Have a client wait, for each piece that it sends, as long as for each that it reads."""
    _pools_of(client).update(http=_PlainPool, https=_TlsPool)
