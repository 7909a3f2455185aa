"""Reads and writes that do less than they were asked for, as a kernel may do at any time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

_BLOCK = 4096
NAMES = ("read", "pread", "preadv", "write", "pwrite", "pwritev")


def shorten(name: str) -> None:
    """Have one function of ``os`` do half of what it is asked for, for the rest of the process."""
    call: Callable[..., Any] = getattr(os, name)
    if name.endswith("v"):
        setattr(os, name, _vector(call))
    else:
        setattr(os, name, _read(call) if name.endswith("read") else _write(call))


def _half(length: int) -> int:
    half = -(-length // 2)
    return half - half % _BLOCK if half > _BLOCK else half


def _read(call: Callable[..., bytes]) -> Callable[..., bytes]:
    return lambda descriptor, length, *rest: call(descriptor, _half(length), *rest)


def _write(call: Callable[..., int]) -> Callable[..., int]:
    def short(descriptor: int, data: Any, *rest: int) -> int:
        view = memoryview(data).cast("B")
        return call(descriptor, view[: _half(len(view))], *rest)

    return short


def _vector(call: Callable[..., int]) -> Callable[..., int]:
    def short(descriptor: int, buffers: Sequence[Any], *rest: int) -> int:
        first = memoryview(buffers[0]).cast("B")
        return call(descriptor, [first[: _half(len(first))]], *rest)

    return short
