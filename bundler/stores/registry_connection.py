"""Connections whose answers come to an end, however they drip.

A timeout of a socket begins anew with each byte. Here the reader of an answer has a deadline, and
gives the socket, before each read, no more than is left of it: no thread has to watch, and headers
without end, ``100 Continue`` again and again and what follows a chunked body are covered alike.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Deadline:
    """Until when one connection may take to give what is waited for.

    Attributes:
        end: When that is, in seconds of ``time.monotonic``.
        idle: Seconds that it may stand still meanwhile.
        in_head: Whether the headers are not all there, so that an end of the stream is none.
    """

    def __init__(self) -> None:
        self.in_head = True
        self.grant(0.0, 0.0)

    def grant(self, seconds: float, idle: float) -> None:
        """Begin to wait for something else."""
        self.end = time.monotonic() + seconds
        self.idle = idle

    def left(self) -> float:
        """Give the seconds that the next read may take.

        Raises:
            OSError: There are none.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise OSError("its answer did not end")
        return min(left, self.idle)


class _Reader(io.RawIOBase):
    """What a socket receives, until the deadline."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: Deadline) -> None:
        self._socket = sock
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        self._socket.settimeout(self._deadline.left())
        count = self._raw.readinto(buffer)
        if count == 0 and self._deadline.in_head:
            raise ConnectionResetError("it broke off before its headers were complete")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer whose headers must be complete within the timeout that the socket has by now."""

    def __init__(
        self,
        deadline: Deadline,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
    ) -> None:
        super().__init__(sock, debuglevel, method)
        timeout = sock.gettimeout() or 0.0
        deadline.in_head = True
        deadline.grant(timeout, timeout)
        self._deadline = deadline
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach(), deadline))

    def begin(self) -> None:
        super().begin()
        self._deadline.in_head = False


class _Plain(HTTPConnection):
    """A connection; ``deadline`` holds for the answer that is read from it."""

    def connect(self) -> None:
        self.deadline = Deadline()
        # http.client calls it, and asks nothing else of it.
        self.response_class = cast(
            "type[http.client.HTTPResponse]", partial(_Answer, self.deadline)
        )
        super().connect()


class _Tls(_Plain, HTTPSConnection):
    """The same with TLS: what ``_Plain`` does not do, HTTPSConnection does."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Tls


_POOLS: Mapping[str, type[urllib3.HTTPConnectionPool]] = {"http": _PlainPool, "https": _TlsPool}


def timed(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Have a manager make connections with deadlines."""
    manager.pool_classes_by_scheme = dict(_POOLS)
    return manager


def deadline_of(response: urllib3.BaseHTTPResponse) -> Deadline | None:
    """Give the deadline for what is left of an answer; None where nothing is."""
    connection = response.connection
    return connection.deadline if isinstance(connection, _Plain) else None
