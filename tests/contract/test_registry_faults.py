"""Registries that lie, break off, stand still or are busy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ConflictError,
    ContentError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.stores import registry_upload
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_registry
from bundler.stores.retry import Patience, Timeouts
from tests.contract.registry_contract import MANIFEST_TYPE, blob_of
from tests.contract.scripted_registry import BRIEFLY, Reply, Scripted, Seen, error, serving, told

CONTENT = os.urandom(5 * (1 << 20) + 11)
DIGEST = Digest.of(CONTENT)
MANIFEST = b'{"schemaVersion":2}'
SHORT = Timeouts(connect=0.5, idle=0.5, commit=0.5, answer=0.5)
Script = Callable[[Seen], Reply | None]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with serving() as server:
        yield server


def once(part: str, *replies: Reply | None) -> Script:
    """Answer the first requests that look like ``METHOD PATH`` with ``part`` in it."""
    left = list(replies)

    def script(seen: Seen) -> Reply | None:
        return left.pop(0) if left and part in f"{seen.method} {seen.path}" else None

    return script


def always(part: str, reply: Reply) -> Script:
    return lambda seen: reply if part in f"{seen.method} {seen.path}" else None


def send(
    server: Scripted, patience: Patience = BRIEFLY, timeouts: Timeouts | None = None
) -> list[int]:
    """Upload the blob; gives what progress was told."""
    told_of: list[int] = []
    registry = server.open(patience=patience, timeouts=timeouts)
    registry.upload("atlas", blob_of(CONTENT), advance=told_of.append)
    assert server.blobs == {str(DIGEST): CONTENT}
    assert sum(told_of) == len(CONTENT)
    return told_of


class TestUploadsThatBreakOff:
    def test_what_breaks_off_is_gone_on_with(self, scripted: Scripted) -> None:
        scripted.script = once("PUT", Reply(takes=3 << 20))
        send(scripted)
        sessions = [each for each in scripted.seen if "uploads" in each.path]
        assert [each.method for each in sessions] == ["POST", "PUT", "GET", "PATCH", "PUT"]
        assert [len(each.body) for each in sessions[3:]] == [len(CONTENT) - (3 << 20), 0]
        assert sessions[3].headers["content-range"] == f"{3 << 20}-{len(CONTENT) - 1}"

    def test_progress_takes_back_what_was_lost(self, scripted: Scripted) -> None:
        scripted.script = once("PUT", Reply(takes=1 << 20))
        assert min(send(scripted)) < 0

    def test_it_may_break_off_again_and_again_as_long_as_it_advances(
        self, scripted: Scripted
    ) -> None:
        breaks = [Reply(takes=400_000) for _ in range(12)]
        scripted.script = lambda seen: (
            breaks.pop() if breaks and seen.method in "PUT PATCH" else None
        )
        send(scripted, Patience(tries=4, sleep=lambda _: None))
        assert len(scripted.sessions) == 0
        assert [each for each in scripted.asked if each.startswith("POST")] == ["POST session"]

    def test_it_is_given_up_where_it_does_not_advance(self, scripted: Scripted) -> None:
        scripted.script = lambda seen: Reply(takes=0) if seen.method in "PUT PATCH" else None
        with pytest.raises(WorldError, match=r"broke off.* \(tried 4 times\)") as caught:
            send(scripted, Patience(tries=4, sleep=lambda _: None))
        assert f"/atlas@{DIGEST}" in told(caught.value)
        assert scripted.asked.count("PUT session") == 4

    def test_two_bytes_at_a_time_are_no_advance(self, scripted: Scripted) -> None:
        scripted.script = lambda seen: Reply(takes=2) if seen.method in "PUT PATCH" else None
        with pytest.raises(WorldError, match=r"broke off.* \(tried 10 times\)"):
            send(scripted)
        assert len([each for each in scripted.seen if each.method in "PUT PATCH"]) == 10

    @pytest.mark.parametrize(
        "progress",
        [
            Reply(status=404),
            Reply(status=204),
            Reply(status=204, headers={"Range": "0-0"}),
            Reply(status=204, headers={"Range": f"0-{len(CONTENT) + 5}"}),
            Reply(status=204, headers={"Range": "1048576-2097151"}),
            Reply(status=204, headers={"Range": "0-" + "9" * 60}),
            Reply(status=405),
            Reply(silent=True),
        ],
    )
    def test_an_offset_that_cannot_be_true_means_a_fresh_start(
        self, scripted: Scripted, progress: Reply
    ) -> None:
        first = [Reply(takes=2 << 20)]

        def script(seen: Seen) -> Reply | None:
            if seen.method == "GET":
                return progress
            return first.pop() if first and seen.method == "PUT" else None

        scripted.script = script
        send(scripted)
        sessions = [each for each in scripted.asked if each.endswith("session")]
        assert sessions[-3:] == ["GET session", "POST session", "PUT session"]

    def test_a_place_that_was_true_stays_true_where_nothing_more_came(
        self, scripted: Scripted
    ) -> None:
        broken, busy = [Reply(takes=3 << 20)], [Reply(status=503)]
        scripted.script = lambda seen: (
            broken.pop()
            if broken and seen.method == "PUT"
            else busy.pop()
            if busy and seen.method == "PATCH"
            else None
        )
        send(scripted)
        assert scripted.asked.count("POST session") == 1
        assert scripted.asked.count("PATCH session") == 2

    def test_a_stale_offset_is_refused_there_and_means_a_fresh_start(
        self, scripted: Scripted
    ) -> None:
        """Amazon ECR is said to show the offset of an earlier time, and to answer 416 then."""
        breaks = [Reply(takes=4 << 20)]

        def script(seen: Seen) -> Reply | None:
            if seen.method == "GET":
                return Reply(status=204, headers={"Range": "0-1048575"})
            return breaks.pop() if breaks and seen.method == "PUT" else None

        scripted.script = script
        send(scripted)
        assert "PATCH session" in scripted.asked
        assert scripted.asked[-2:] == ["POST session", "PUT session"]

    def test_patch_may_be_answered_as_ecr_does(self, scripted: Scripted) -> None:
        """Amazon ECR is said to answer 201, with an offset of an earlier time."""
        scripted.script = once("PUT", Reply(takes=3 << 20))
        scripted.disguise = lambda seen, reply: (
            replace(reply, status=201, headers={**reply.headers, "Range": "0-9"})
            if seen.method == "PATCH"
            else reply
        )
        send(scripted)
        assert scripted.asked.count("PATCH session") == 1
        assert scripted.asked.count("POST session") == 1

    def test_other_content_in_a_session_that_was_resumed_is_sent_afresh(
        self, scripted: Scripted
    ) -> None:
        breaks = [Reply(takes=3 << 20)]

        def script(seen: Seen) -> Reply | None:
            if seen.method == "GET":  # as if what came was damaged on its way
                scripted.sessions["s1"][7] ^= 1
            return breaks.pop() if breaks and seen.method == "PUT" else None

        scripted.script = script
        send(scripted)
        assert scripted.asked.count("POST session") == 2

    def test_a_short_rest_goes_with_the_end_where_the_registry_wants_large_parts(
        self, scripted: Scripted
    ) -> None:
        breaks = [Reply(takes=3 << 20)]

        def script(seen: Seen) -> Reply | None:
            if seen.method == "POST":
                scripted.sessions["big"] = bytearray()
                headers = {
                    "Location": "/v2/atlas/blobs/uploads/big",
                    "OCI-Chunk-Min-Length": str(5 << 20),
                }
                return Reply(status=202, headers=headers)
            return breaks.pop() if breaks and seen.method == "PUT" else None

        scripted.script = script
        send(scripted)
        assert "PATCH session" not in scripted.asked

    def test_a_lost_last_answer_is_no_reason_to_send_again(self, scripted: Scripted) -> None:
        done: list[Seen] = []

        def script(seen: Seen) -> Reply | None:
            if seen.method == "PUT" and not done:
                done.append(seen)
                scripted.blobs[str(DIGEST)] = CONTENT
                return Reply(silent=True)
            return None

        scripted.script = script
        send(scripted)
        assert scripted.asked == ["POST session", "PUT session", "HEAD blob"]

    @pytest.mark.parametrize("busy", [0, 2])
    def test_what_was_put_away_meanwhile_is_not_sent_again(
        self, scripted: Scripted, busy: int
    ) -> None:
        """As where a balancer does not wait until the registry is done, and the link comes last."""
        left = [Reply(status=500)] * busy

        def script(seen: Seen) -> Reply | None:
            if seen.method == "GET" and not left:
                scripted.sessions.clear()
                scripted.blobs[str(DIGEST)] = CONTENT
                return Reply(status=404)
            if seen.method == "PUT":
                return Reply(status=504)
            return left.pop() if seen.method == "GET" else None

        scripted.script = script
        send(scripted)
        sent = [each for each in scripted.asked if each.startswith("P")]
        assert sent == ["POST session", "PUT session"]

    def test_a_session_that_is_gone_when_it_is_to_end_may_have_ended(
        self, scripted: Scripted
    ) -> None:
        def script(seen: Seen) -> Reply | None:
            if seen.method != "PUT":
                return None
            if int(seen.headers["content-length"]):
                scripted.sessions["s1"] += CONTENT
                return Reply(status=504)
            scripted.blobs[str(DIGEST)] = CONTENT
            return error(404, "BLOB_UPLOAD_UNKNOWN")

        scripted.script = script
        send(scripted)
        assert scripted.asked.count("PUT session") == 2
        assert scripted.asked.count("POST session") == 1

    @pytest.mark.parametrize("comes", [True, False])
    def test_a_large_blob_that_is_being_put_away_is_waited_for(
        self, scripted: Scripted, monkeypatch: pytest.MonkeyPatch, comes: bool
    ) -> None:
        """For half of the time that there is: sending it again may take as long."""
        monkeypatch.setattr(registry_upload, "_BYTES_PER_SECOND", 1)
        slept: list[float] = []
        refused = [Reply(status=504)]

        def script(seen: Seen) -> Reply | None:
            if comes and sum(slept) > 100:
                scripted.blobs[str(DIGEST)] = CONTENT
            if seen.method == "GET":
                return Reply(status=404)
            return refused.pop() if refused and seen.method == "PUT" else None

        scripted.script = script
        send(scripted, Patience(sleep=slept.append, draw=lambda: 1.0))
        assert scripted.asked.count("POST session") == (1 if comes else 2)
        assert 100 < sum(slept) < 200

    def test_after_that_there_is_time_for_what_breaks_next(
        self, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry_upload, "_BYTES_PER_SECOND", 1)
        late = Reply(status=504, headers={"Retry-After": "160"})
        put = [late, Reply(takes=3 << 20)]

        def script(seen: Seen) -> Reply | None:
            if seen.method == "GET" and len(put) == 1:
                return Reply(status=404)
            return put.pop(0) if put and seen.method == "PUT" else None

        scripted.script = script
        slept: list[float] = []
        send(scripted, Patience(sleep=slept.append, draw=lambda: 1.0))
        assert scripted.asked.count("POST session") == 2

    def test_what_was_never_closed_is_not_waited_for(
        self, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry_upload, "_BYTES_PER_SECOND", 1)
        replies = {"PUT": [Reply(takes=3 << 20)], "PATCH": [error(404, "BLOB_UPLOAD_UNKNOWN")]}

        def script(seen: Seen) -> Reply | None:
            left = replies.get(seen.method)
            return left.pop() if left else None

        scripted.script = script
        slept: list[float] = []
        send(scripted, Patience(sleep=slept.append, draw=lambda: 1.0))
        assert scripted.asked.count("PATCH session") == 1
        assert sum(slept) < 5

    def test_what_a_lost_last_answer_left_there_must_have_the_size(
        self, scripted: Scripted
    ) -> None:
        scripted.script = lambda seen: (
            Reply(headers={"Content-Length": "5"})
            if seen.method == "HEAD"
            else Reply(silent=True)
            if seen.method == "PUT"
            else None
        )
        with pytest.raises(
            ContentError, match=f"expected {len(CONTENT)} bytes, the registry has 5"
        ):
            send(scripted)

    def test_it_is_looked_for_even_where_nothing_is_tried_again(self, scripted: Scripted) -> None:
        def script(seen: Seen) -> Reply | None:
            if seen.method == "PUT":
                scripted.blobs[str(DIGEST)] = CONTENT
                return Reply(silent=True)
            return None

        scripted.script = script
        send(scripted, Patience(tries=1))

    def test_a_lost_session_means_a_fresh_start(self, scripted: Scripted) -> None:
        scripted.script = once("PUT", error(404, "BLOB_UPLOAD_UNKNOWN"))
        send(scripted)
        assert scripted.asked.count("POST session") == 2

    @pytest.mark.parametrize("code", ["BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN"])
    def test_what_is_refused_whole_is_sent_twice_and_no_more(
        self, scripted: Scripted, code: str
    ) -> None:
        scripted.disguise = lambda seen, reply: error(400, code) if seen.method == "PUT" else reply
        with pytest.raises(WorldError, match=f"answered 400 {code}"):
            send(scripted)
        assert scripted.asked.count("PUT session") == 2

    def test_ecr_says_otherwise_that_content_is_another(self, scripted: Scripted) -> None:
        words = "None of the provided layer digests match the calculated layer digest"
        refusal = error(400, "BLOB_UPLOAD_INVALID", words)
        scripted.disguise = lambda seen, reply: refusal if seen.method == "PUT" else reply
        with pytest.raises(ContentError, match="found other content than was signed, 2 times"):
            send(scripted)
        assert scripted.asked.count("PUT session") == 2

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_busy_registry_is_tried_again(self, scripted: Scripted, status: int) -> None:
        replies = [Reply(status=status)] * 2
        scripted.script = once("PUT", *replies)
        send(scripted)
        assert scripted.asked.count("PUT session") == 3

    @pytest.mark.parametrize("status", [400, 403, 405, 413])
    def test_what_will_not_pass_is_tried_once(self, scripted: Scripted, status: int) -> None:
        scripted.script = always("PUT", Reply(status=status))
        with pytest.raises(WorldError) as caught:
            send(scripted)
        assert str(status) in told(caught.value)
        assert scripted.asked == ["POST session", "PUT session"]
        assert isinstance(caught.value, DeniedError) == (status == 403)

    def test_a_limit_on_requests_is_told(self, scripted: Scripted) -> None:
        scripted.script = always("PUT", Reply(status=413))
        with pytest.raises(WorldError) as caught:
            send(scripted)
        assert "limits the size of a request" in told(caught.value)


class TestStandingStill:
    def test_an_answer_that_does_not_come_is_not_waited_for(self, scripted: Scripted) -> None:
        scripted.script = once("GET", Reply(stalls=True))
        assert scripted.open(timeouts=SHORT).manifest("atlas", "1.0.0") is None
        assert len(scripted.seen) == 2

    def test_who_never_answers_is_given_up(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(stalls=True)
        patience = Patience(tries=2, sleep=lambda _: None)
        registry = scripted.open(patience=patience, timeouts=SHORT)
        with pytest.raises(WorldError, match="it stood still") as caught:
            registry.manifest("atlas", "1.0.0")
        assert "check registry.host" in told(caught.value)

    def test_an_upload_that_is_not_answered_is_looked_for(self, scripted: Scripted) -> None:
        scripted.script = once("PUT", Reply(stalls=True))
        send(scripted, timeouts=SHORT)
        assert "HEAD blob" in scripted.asked[:3]

    def test_who_takes_no_more_is_not_waited_for(self, scripted: Scripted) -> None:
        scripted.script = once("PUT", Reply(takes=1 << 20, stalls=True))
        content = CONTENT * 8  # more than the buffers between us hold
        told_of: list[int] = []
        registry = scripted.open(timeouts=SHORT)
        registry.upload("atlas", blob_of(content), advance=told_of.append)
        assert sum(told_of) == len(content)
        assert "PATCH session" in scripted.asked


class TestLies:
    def test_a_blob_that_was_taken_and_is_not_there_is_not_there(self, scripted: Scripted) -> None:
        """That somebody asks is the publisher's part: AtRegistry, before anything is tagged."""
        scripted.script = always("PUT", Reply(status=201))
        registry = scripted.open()
        registry.upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        assert registry.blob_size("atlas", DIGEST) is None

    def test_a_blob_that_is_called_otherwise(self, scripted: Scripted) -> None:
        other = {"Docker-Content-Digest": str(Digest.of(b"other"))}
        scripted.script = always("PUT", Reply(status=201, headers=other))
        with pytest.raises(ContentError, match="its answer names another digest: ") as caught:
            send(scripted)
        assert "answers wrongly: ask its operator" in told(caught.value)

    @pytest.mark.parametrize("length", ["", "-5", "many", "1e3", "9" * 5000])
    def test_a_size_that_is_none(self, scripted: Scripted, length: str) -> None:
        scripted.script = lambda _: Reply(headers={"Content-Length": length})
        with pytest.raises(WorldError, match="does not say how many bytes"):
            scripted.open().blob_size("atlas", DIGEST)

    def test_a_session_without_a_place(self, scripted: Scripted) -> None:
        scripted.script = always("POST", Reply(status=202))
        with pytest.raises(WorldError, match="no Location"):
            send(scripted)

    @pytest.mark.parametrize(
        "location", ["ftp://h/x", "http://u:p@h/", "http://[::1", "http://h:x/"]
    )
    def test_a_session_at_no_url(self, scripted: Scripted, location: str) -> None:
        scripted.script = always("POST", Reply(status=202, headers={"Location": location}))
        with pytest.raises(WorldError, match="which is no URL"):
            send(scripted)

    def test_a_manifest_that_is_announced_otherwise(self, scripted: Scripted) -> None:
        header = {"Docker-Content-Digest": str(Digest.of(b"other"))}
        scripted.script = lambda _: Reply(headers=header, body=MANIFEST)
        with pytest.raises(ContentError, match=f"sends {Digest.of(MANIFEST)}"):
            scripted.open().manifest("atlas", "1.0.0")

    def test_a_manifest_of_another_digest_than_was_asked_for(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(body=MANIFEST)
        with pytest.raises(ContentError, match=f"sends {Digest.of(MANIFEST)}"):
            scripted.open().manifest("atlas", str(Digest.of(b"other")))

    def test_a_digest_of_another_algorithm_says_nothing(self, scripted: Scripted) -> None:
        header = {"Docker-Content-Digest": f"sha512:{'0' * 128}"}
        scripted.script = lambda _: Reply(headers=header, body=MANIFEST)
        found = scripted.open().manifest("atlas", "1.0.0")
        assert found is not None
        assert found.digest == Digest.of(MANIFEST)

    def test_a_manifest_that_was_put_and_is_called_otherwise(self, scripted: Scripted) -> None:
        header = {"Docker-Content-Digest": str(Digest.of(b"other"))}
        scripted.script = lambda _: Reply(status=201, headers=header)
        with pytest.raises(ContentError, match=f"expected {Digest.of(MANIFEST)}"):
            scripted.open().put_manifest("atlas", "1.0.0", MANIFEST_TYPE, MANIFEST)

    def test_a_manifest_without_end_is_not_read(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(endless=True)
        with pytest.raises(WorldError, match="manifest of over 4194304 bytes"):
            scripted.open().manifest("atlas", "1.0.0")

    @pytest.mark.parametrize("status", [201, 400])
    def test_an_answer_without_end_is_not_read(self, scripted: Scripted, status: int) -> None:
        def script(seen: Seen) -> Reply | None:
            if seen.method != "PUT":
                return None
            scripted.blobs[str(DIGEST)] = CONTENT
            return Reply(status=status, endless=True)

        scripted.script = script
        registry = scripted.open()
        if status == 201:
            registry.upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        else:
            with pytest.raises(WorldError, match="answered 400"):
                registry.upload("atlas", blob_of(CONTENT), advance=lambda _: None)

    def test_what_was_not_read_does_not_meet_the_next_request(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(status=404, body=b"x" * (1 << 20))
        registry = scripted.open(patience=Patience(tries=1))
        for _ in range(2):
            assert registry.manifest("atlas", "1.0.0") is None

    def test_words_that_move_a_cursor_are_not_passed_on(self, scripted: Scripted) -> None:
        scripted.script = lambda _: error(400, "DENIED", "\\u001b[2J\\nok")
        with pytest.raises(WorldError) as caught:
            scripted.open().manifest("atlas", "1.0.0")
        assert "\x1b" not in told(caught.value)

    @pytest.mark.parametrize(
        "body", [b"[" * 60_000, b'{"errors":[1,{"code":[]}]}', b'{"errors":7}', b"null", b"\xff"]
    )
    def test_errors_that_are_none_are_no_reason_to_fail(
        self, scripted: Scripted, body: bytes
    ) -> None:
        scripted.script = lambda _: Reply(status=418, body=body)
        with pytest.raises(WorldError, match="answered 418"):
            scripted.open().manifest("atlas", "1.0.0")


class TestReadingBack:
    @pytest.fixture(autouse=True)
    def there(self, scripted: Scripted) -> None:
        scripted.blobs[str(DIGEST)] = CONTENT

    def read(self, scripted: Scripted, patience: Patience = BRIEFLY) -> bytes:
        registry = scripted.open(patience=patience)
        return b"".join(registry.read_blob("atlas", DIGEST, len(CONTENT)))

    @pytest.mark.parametrize("honest", [True, False])
    def test_a_download_that_breaks_off_is_gone_on_with(
        self, scripted: Scripted, honest: bool
    ) -> None:
        def script(seen: Seen) -> Reply | None:
            if len(scripted.seen) == 1:  # fewer bytes than announced, then the end
                size = {"Content-Length": str(len(CONTENT)), "Connection": "close"}
                return Reply(headers=size, body=CONTENT[: 3 << 20])
            start = int(seen.headers["range"].removeprefix("bytes=").rstrip("-"))
            part = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
            return Reply(status=206, headers=part, body=CONTENT[start:]) if honest else None

        scripted.script = script
        assert self.read(scripted) == CONTENT
        assert len(scripted.seen) == 2

    @pytest.mark.parametrize(
        "part", ["", f"bytes 0-{1 << 20}/*", "bytes 3145729-{last}/*", "items 3145728-{last}/*"]
    )
    def test_another_part_than_was_asked_for_is_refused(
        self, scripted: Scripted, part: str
    ) -> None:
        def script(_: Seen) -> Reply | None:
            size = {"Content-Length": str(len(CONTENT)), "Connection": "close"}
            if len(scripted.seen) == 1:
                return Reply(headers=size, body=CONTENT[: 3 << 20])
            rest = CONTENT[: len(CONTENT) - (3 << 20)]  # of the right size
            header = {"Content-Range": part.format(last=len(CONTENT) - 1)} if part else {}
            return Reply(status=206, headers=header, body=rest)

        scripted.script = script
        with pytest.raises(WorldError, match="expected bytes 3145728-5242890") as caught:
            self.read(scripted)
        assert "cache or proxy" in told(caught.value)

    def test_a_part_of_a_larger_blob_is_of_another_blob(self, scripted: Scripted) -> None:
        header = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT) + 1}"}
        scripted.script = lambda _: Reply(status=206, headers=header, body=CONTENT)
        with pytest.raises(ContentError, match=f"serves {len(CONTENT) + 1}"):
            self.read(scripted)

    def test_it_is_given_up_where_nothing_comes(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(
            headers={"Content-Length": str(len(CONTENT)), "Connection": "close"}
        )
        with pytest.raises(WorldError, match="broke off"):
            self.read(scripted, Patience(tries=3, sleep=lambda _: None))
        assert len(scripted.seen) == 3

    def test_a_blob_without_end_is_not_read(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(endless=True)
        with pytest.raises(ContentError, match=f"serves more than {len(CONTENT)}"):
            self.read(scripted)

    def test_a_blob_that_ends_early_is_not_taken_for_whole(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(body=CONTENT[:-1])
        with pytest.raises(ContentError, match=f"serves {len(CONTENT) - 1}"):
            self.read(scripted)


class TestTags:
    def put(self, scripted: Scripted) -> None:
        scripted.open().put_manifest("atlas", "1.0.0", MANIFEST_TYPE, MANIFEST)

    @pytest.fixture(
        params=[
            Reply(status=409),
            error(400, "TAG_INVALID", "the tag 1.0.0 already exists, the repository is immutable"),
            error(403, "ImageTagAlreadyExistsException"),
            error(412, "PRECONDITION", "configured as immutable"),
        ]
    )
    def immutable(self, request: pytest.FixtureRequest, scripted: Scripted) -> Scripted:
        scripted.script = always("PUT", request.param)
        return scripted

    def test_an_immutable_tag_of_something_else_is_a_conflict(self, immutable: Scripted) -> None:
        immutable.manifests["1.0.0"] = b"{}"
        with pytest.raises(ConflictError, match=f"the tag names {Digest.of(b'{}')}"):
            self.put(immutable)

    def test_an_immutable_tag_of_the_same_is_success(self, immutable: Scripted) -> None:
        immutable.manifests["1.0.0"] = MANIFEST
        self.put(immutable)

    def test_other_refusals_are_no_conflict(self, scripted: Scripted) -> None:
        scripted.script = always("PUT", error(400, "MANIFEST_INVALID", "bad"))
        with pytest.raises(WorldError, match="400 MANIFEST_INVALID: bad"):
            self.put(scripted)
        scripted.script = always("PUT", Reply(status=403))
        with pytest.raises(DeniedError):
            self.put(scripted)


class TestRepositories:
    @pytest.mark.parametrize("code", ["NAME_UNKNOWN", "RepositoryNotFoundException"])
    def test_one_that_must_be_made_first_is_told(self, scripted: Scripted, code: str) -> None:
        scripted.script = lambda seen: None if seen.method == "HEAD" else error(404, code)
        registry = scripted.open()
        with pytest.raises(NotFoundError, match="no such repository") as caught:
            registry.upload("atlas", blob_of(b"x"), advance=lambda _: None)
        assert "registry.ecr" in told(caught.value)
        with pytest.raises(NotFoundError, match="no such repository"):
            registry.put_manifest("atlas", "1.0.0", MANIFEST_TYPE, MANIFEST)
        assert not registry.mount("atlas", DIGEST, source="other")
        assert registry.manifest("atlas", "1.0.0") is None

    def test_a_mount_that_was_refused_is_no_upload(self, scripted: Scripted) -> None:
        registry = scripted.open()
        assert not registry.mount("atlas", DIGEST, source="team/other")
        assert scripted.seen[0].query == {"mount": str(DIGEST), "from": "team/other"}
        registry.upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        assert scripted.asked == ["POST session", "POST session", "PUT session"]

    @pytest.mark.parametrize("status", [307, 400, 403, 404, 405, 409, 415, 429, 500, 501, 503])
    def test_a_registry_may_not_know_mounts(self, scripted: Scripted, status: int) -> None:
        scripted.script = lambda _: Reply(status=status)
        assert not scripted.open().mount("atlas", DIGEST, source="other")
        assert len(scripted.seen) == (3 if status in {429, 500, 503} else 1)


class TestBusy:
    def test_the_time_that_it_wants_is_given(self, scripted: Scripted) -> None:
        slept: list[float] = []
        patience = Patience(sleep=slept.append, draw=lambda: 0.0)
        scripted.script = once(
            "GET",
            Reply(status=429, headers={"Retry-After": "7"}),
            Reply(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        )
        assert scripted.open(patience=patience).manifest("atlas", "1.0.0") is None
        assert slept == [7.0, 0.0]

    def test_one_that_stays_busy_is_given_up(self, scripted: Scripted) -> None:
        scripted.script = lambda _: error(503, "UNAVAILABLE", "sorry")
        with pytest.raises(WorldError, match=r"answered 503 UNAVAILABLE: sorry, 10 times"):
            scripted.open().manifest("atlas", "1.0.0")
        assert len(scripted.seen) == 10

    def test_one_that_wants_more_time_than_we_have_is_given_up(self, scripted: Scripted) -> None:
        scripted.script = lambda _: Reply(status=429, headers={"Retry-After": "86400"})
        with pytest.raises(WorldError, match=r"answered 429 .*\(Retry-After: 86400\)"):
            scripted.open().manifest("atlas", "1.0.0")
        assert len(scripted.seen) == 1

    def test_so_is_one_that_wants_it_of_an_upload(self, scripted: Scripted) -> None:
        scripted.script = always("PUT", Reply(status=503, headers={"Retry-After": "86400"}))
        with pytest.raises(WorldError, match=r"answered 503 .*\(Retry-After: 86400\)"):
            send(scripted)
        assert "GET session" not in scripted.asked

    @pytest.mark.parametrize("busy", ["PUT GET HEAD", "PUT GET", "PUT HEAD"])
    def test_one_budget_is_for_all_requests_of_an_upload(
        self, scripted: Scripted, busy: str
    ) -> None:
        slept: list[float] = []
        patience = Patience(sleep=slept.append, draw=lambda: 1.0)
        scripted.script = lambda seen: Reply(status=503) if seen.method in busy else None
        with pytest.raises(WorldError):
            send(scripted, patience)
        assert sum(slept) <= patience.budget
        refused = [each for each in scripted.seen if each.method in busy.split()]
        assert len(refused) <= patience.tries + 1  # one last look is free

    def test_a_request_that_stands_still_is_of_the_budget_too(self, scripted: Scripted) -> None:
        scripted.script = lambda seen: Reply(stalls=True) if seen.method == "PUT" else None
        patience = Patience(budget=0.8, draw=lambda: 0.0)
        with pytest.raises(WorldError, match=r"it stood still \(tried 2 times\)"):
            send(scripted, patience, SHORT)
        assert scripted.asked.count("PUT session") == 2

    def test_and_so_is_what_a_token_takes(self, scripted: Scripted) -> None:
        challenge = {"WWW-Authenticate": f'Bearer realm="{scripted.url}/token"'}
        scripted.script = lambda seen: (
            Reply(status=503)
            if seen.path.startswith("/token")
            else Reply(status=401, headers=challenge)
        )
        with pytest.raises(WorldError, match=r"the token server .* answered 503 .*, 10 times"):
            scripted.open().manifest("atlas", "1.0.0")
        assert len(scripted.seen) == 11

    def test_a_connection_that_breaks_is_made_again(self, scripted: Scripted) -> None:
        scripted.script = once("GET", Reply(silent=True), Reply(silent=True))
        assert scripted.open().manifest("atlas", "1.0.0") is None
        assert len(scripted.seen) == 3


@dataclass
class Restarted:
    """A registry that goes away before we wait, and comes back where it was with what it had.

    Attributes:
        seconds: How long we wait until then.
        slept: What we waited.
        back: The one that came back.
    """

    seconds: float
    slept: list[float] = field(default_factory=list)
    back: Scripted | None = None
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.first = self._running.enter_context(serving())

    def go(self) -> None:
        self._running.close()

    def sleep(self, seconds: float) -> None:
        if not self.slept:
            self.go()
        self.slept.append(seconds)
        if self.back is None and sum(self.slept) >= self.seconds:
            port = int(self.first.address.rpartition(":")[2])
            self.back = self._running.enter_context(serving(port=port))
            for what in ("blobs", "sessions", "seen", "script"):
                setattr(self.back, what, getattr(self.first, what))

    def upload(self, tries: int = 10) -> None:
        patience = Patience(tries=tries, sleep=self.sleep, draw=lambda: 1.0)
        registry = self.first.open(patience=patience)
        registry.upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        self.go()


class TestRestarts:
    """One that answered before is waited for as long as there is time, however often it refuses."""

    def test_one_that_does_not_come_back_is_given_up_when_the_time_is_over(self) -> None:
        there = Restarted(seconds=1e9)
        there.first.script = lambda _: Reply(status=404, headers={"Connection": "close"})
        patience = Patience(sleep=there.sleep, draw=lambda: 1.0)
        registry = there.first.open(patience=patience)
        assert registry.manifest("atlas", "1.0.0") is None
        there.go()
        with pytest.raises(WorldError, match="cannot reach the registry: Connection refused"):
            registry.manifest("atlas", "1.0.0")
        assert 200 < sum(there.slept) <= patience.budget

    def test_a_mount_is_waited_for(self) -> None:
        there = Restarted(seconds=100)
        there.first.script = lambda _: Reply(
            status=201 if there.back else 404, headers={"Connection": "close"}
        )
        registry = there.first.open(patience=Patience(sleep=there.sleep, draw=lambda: 1.0))
        assert registry.blob_size("atlas", DIGEST) is None
        there.go()
        assert registry.mount("atlas", DIGEST, source="other")
        there.go()

    def test_an_upload_goes_on_where_it_was(self) -> None:
        there = Restarted(seconds=150)
        there.first.script = once("PUT", Reply(takes=3 << 20))
        there.upload()
        assert there.first.blobs == {str(DIGEST): CONTENT}
        assert there.first.asked.count("POST session") == 1
        assert sum(there.slept) >= 150

    def test_one_that_goes_before_a_byte_was_sent_uses_up_no_tries(self) -> None:
        there = Restarted(seconds=150)

        def script(seen: Seen) -> Reply | None:
            if there.back is None and seen.method == "POST":
                reply = there.first.answer(seen)
                there.go()
                return replace(reply, headers={**reply.headers, "Connection": "close"})
            return None

        there.first.script = script
        there.upload(tries=1)
        assert there.first.blobs == {str(DIGEST): CONTENT}
        assert sum(there.slept) >= 150


class TestNobodyThere:
    def test_nobody_listens(self) -> None:
        registry = open_registry(
            "127.0.0.1:9", logins=GivenLogin(), patience=BRIEFLY, environment={}
        )
        with pytest.raises(WorldError, match=r"^127\.0\.0\.1:9: cannot reach") as caught:
            registry.manifest("atlas", "1.0.0")
        assert "Connection refused (tried 3 times)" in told(caught.value)

    def test_a_host_that_has_no_address(self) -> None:
        registry = open_registry(
            "registry.invalid", logins=GivenLogin(), patience=BRIEFLY, environment={}
        )
        with pytest.raises(WorldError, match="cannot reach the registry") as caught:
            registry.manifest("atlas", "1.0.0")
        assert "registry.host" in told(caught.value)

    def test_tls_to_a_server_without_it(self, scripted: Scripted) -> None:
        with pytest.raises(WorldError, match="does not speak TLS") as caught:
            scripted.open(plain_http=False).manifest("atlas", "1.0.0")
        assert "plainHttp" in told(caught.value)

    def test_an_authority_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"ca\.crt: no such file"):
            open_registry("registry.example.com", logins=GivenLogin(), ca=tmp_path / "ca.crt")

    @pytest.mark.parametrize("host", ["h:99999", "h:70000/path"])
    def test_a_port_that_there_cannot_be(self, host: str) -> None:
        with pytest.raises(MalformedError, match="h:"):
            open_registry(host, logins=GivenLogin())

    def test_a_proxy_that_is_not_there_is_named_without_its_password(
        self, scripted: Scripted
    ) -> None:
        environment = {"HTTP_PROXY": "http://me:secret@127.0.0.1:9"}
        registry = open_registry(
            "127.1:80",
            logins=GivenLogin(),
            plain_http=True,
            environment=environment,
            patience=BRIEFLY,
        )
        named = r": the proxy http://127\.0\.0\.1:9: Connection refused"
        with pytest.raises(WorldError, match=named) as caught:
            registry.manifest("atlas", "1.0.0")
        assert "secret" not in told(caught.value)


def test_errors_are_told_in_one_line(scripted: Scripted) -> None:
    scripted.script = lambda _: Reply(status=500)
    with pytest.raises(BundleError) as caught:
        scripted.open().blob_size("atlas", DIGEST)
    assert told(caught.value).startswith(
        f"{scripted.address}/atlas@{DIGEST}: the registry answered 500"
    )
