"""Whether it is the time of a release: neither before it was made nor after its last day."""

from __future__ import annotations

from datetime import datetime, timedelta

from bundler.errors import StaleError
from bundler.manifest import Manifest

_CLOCK_TOLERANCE = timedelta(hours=24)


def check_created(manifest: Manifest, *, now: str) -> None:
    """Refuse a release from the future: one of the two times is wrong, and nothing tells which.

    Args:
        manifest: A trusted one.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``.

    Raises:
        StaleError: It was made more than a day after ``now``.
    """
    release = manifest.release
    if datetime.fromisoformat(release.created) - datetime.fromisoformat(now) > _CLOCK_TOLERANCE:
        raise StaleError(
            f"{release.directory}: expected to be created before now, {now}, got {release.created}",
            hint="either the clock of this machine is wrong (date -u), or the release is: then get "
            "another from the vendor",
        )


def is_expired(manifest: Manifest, *, now: str) -> bool:
    """Say whether a release's last day is over; ``now`` as for ``check_created``."""
    expires = manifest.release.expires
    return expires is not None and now >= expires


def check_expiry(manifest: Manifest, *, now: str) -> None:
    """Refuse a release after its last day.

    Args:
        manifest: A trusted one.
        now: UTC seconds, as ``2026-11-01T00:00:00Z``.

    Raises:
        StaleError: It is expired.
    """
    release = manifest.release
    if is_expired(manifest, now=now):
        raise StaleError(
            f"{release.directory}: expired at {release.expires}, and it is {now}",
            hint="get a newer release; or, if you must: --allow-expired, and to deploy it also "
            "--reason TEXT",
        )
