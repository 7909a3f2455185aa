"""Whether an upload that somebody left is gone on with, or one of our own is begun."""

from __future__ import annotations

import contextlib
from datetime import datetime

from bundler.errors import BundleError
from bundler.object_settings import ObjectSettings
from bundler.stores.base import Note
from bundler.stores.s3_errors import Place, told
from bundler.stores.s3_unfinished import Listed, Unfinished, Wanted, find_unfinished, look_up
from bundler.stores.s3_writer import Writer

_USUAL_CLASS = "STANDARD"


def join_or_begin(writer: Writer, place: Place, wanted: Wanted, note: Note) -> Unfinished:
    """Choose an upload that was begun as we would begin it, or begin one.

    What an upload was begun with can be seen in how the server lists it. Where it does not list all
    of that, one of ours is begun and looked at: an upload that is listed like ours is joined.

    Args:
        writer: Makes objects.
        place: The object.
        wanted: Its parts, by number.
        note: Told of an upload that is gone on with.

    Returns:
        The upload, with what is there of it.

    Raises:
        DeniedError, WorldError: As every call.
    """
    asked = _asked(writer.settings)
    left = find_unfinished(writer.client, place, wanted, asked)
    if left is None or left.listed != asked:
        with told(place):
            own, again = writer.begin(place)
        if again:  # the answer that was lost may have begun one, too, before or with ours
            left = find_unfinished(writer.client, place, wanted, asked, own)
        theirs = left is not None and left.upload_id != own
        mine = look_up(writer.client, place, own) if theirs else None
        if left is None or mine is None or left.listed != mine.listed:
            return Unfinished(upload_id=own, begun=datetime.min, listed=asked)
        end_upload(writer, place, own)
    note(_told(place, left, len(wanted), writer.settings))
    return left


def end_upload(writer: Writer, place: Place, upload_id: str) -> None:
    """End an upload that nobody needs; that it cannot be ended is no error."""
    with contextlib.suppress(BundleError), told(place):
        writer.client.abort_multipart_upload(Bucket=place.bucket, Key=place.key, UploadId=upload_id)


def _asked(settings: ObjectSettings) -> Listed:
    return Listed(algorithm="SHA256", storage_class=settings.storage_class or _USUAL_CLASS)


def _told(place: Place, left: Unfinished, count: int, settings: ObjectSettings) -> str:
    unseen = ["tags"] if settings.tags else []
    if left.listed.storage_class != _asked(settings).storage_class:
        unseen.append("storage class")
    text = (
        f"{place}: goes on with an upload that was begun at {left.begun:%Y-%m-%d %H:%M:%S} UTC: "
        f"{len(left.proven) + len(left.likely)} of {count} parts are there"
    )
    if left.likely:
        text += (
            f"; of {len(left.likely)} {place.server} tells no SHA-256: they are compared by MD5, "
            "or come again"
        )
    return text + (f"; keeps the {' and '.join(unseen)} it was begun with" if unseen else "")
