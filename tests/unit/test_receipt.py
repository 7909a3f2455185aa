from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.jsontext import write_json
from bundler.receipt import (
    ChartReceipt,
    ImageReceipt,
    ObjectReceipt,
    Receipt,
    TrustReceipt,
    decode_receipt,
    encode_receipt,
)
from bundler.reference import ImageTag

SOME, OTHER = Digest.of(b"some"), Digest.of(b"other")
RECEIPT = Receipt(
    release="demo-1.0.0",
    manifest=SOME,
    sequence=3,
    signatures=("0123abcd",),
    trust=TrustReceipt(version=2, threshold=1, keys=(SOME, OTHER), signed=(OTHER,)),
    time="2026-11-20T12:00:00Z",
    tool="1.0",
    bucket="s3://models/llm",
    store_checks_content=True,
    images=(
        ImageReceipt(
            tag=ImageTag("atlas", "1"),
            source_digest=OTHER,
            digest=SOME,
            reference=f"r/atlas@{SOME}",
            sent=True,
            bytes_sent=9,
            bytes_mounted=3,
            bytes_there=2,
            bytes_sent_again=4,
        ),
    ),
    images_read_back=True,
    objects=(ObjectReceipt(key="k", size=0, digest=SOME, checksum="c-2", sent=False),),
    chart=ChartReceipt(
        namespace="n",
        release="inference",
        chart="inference-1.0.0",
        revision=4,
        values_digest=OTHER,
        changed=True,
    ),
    allowances=("rollback to sequence 3 below 4",),
    done=("image atlas:1",),
)


def test_a_receipt_reads_back() -> None:
    assert decode_receipt(encode_receipt(RECEIPT), name="r") == RECEIPT


def test_a_store_that_was_not_asked_is_not_said_to_check() -> None:
    unasked = replace(RECEIPT, store_checks_content=None)
    assert b"storeChecksContent" not in encode_receipt(unasked)
    assert decode_receipt(encode_receipt(unasked), name="r") == unasked


def test_a_receipt_of_an_earlier_version_claims_nothing_that_it_does_not_say() -> None:
    document = json.loads(encode_receipt(RECEIPT))
    del document["imagesReadBack"], document["images"][0]["bytesSentAgain"], document["trust"]
    receipt = decode_receipt(write_json(document), name="r")
    assert not receipt.images_read_back
    assert receipt.images[0].bytes_sent_again == 0
    assert receipt.trust is None


def test_names_sort_by_time_and_tell_contents_apart() -> None:
    later = replace(RECEIPT, time="2026-11-20T12:00:01Z")
    other = replace(RECEIPT, sequence=4)
    assert RECEIPT.name.startswith("20261120T120000Z-")
    assert RECEIPT.name < later.name
    assert len({RECEIPT.name, later.name, other.name}) == 3


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[]", write_json({"formatVersion": 2}), encode_receipt(RECEIPT).replace(b"c-2", b"")],
)
def test_what_is_no_receipt_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_receipt(content, name="r")
