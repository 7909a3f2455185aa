"""The receipt: what one run of publish did, and what was there already. Never holds a secret."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.digest import Digest
from bundler.document import Table, utc_time
from bundler.jsontext import MAX_INTEGER, read_json, write_json
from bundler.reference import ImageTag

MAX_RECEIPT_BYTES = 16 << 20
_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReceipt:
    """One image: where it came from, and under which digest it is at the registry now.

    Attributes:
        tag: Name and tag.
        source_digest: Its digest where it came from.
        digest: Its digest at the registry.
        reference: How pods name it.
        sent: Whether it was to do.
        bytes_sent, bytes_mounted, bytes_there: Of its configs and layers, how much was sent, taken
            by the registry from another repository, there already; receipts of earlier versions
            do not say.
        bytes_sent_again: Of ``bytes_sent``, what another repository had and the registry did not
            mount; receipts of earlier versions do not say.
    """

    tag: ImageTag
    source_digest: Digest
    digest: Digest
    reference: str
    sent: bool
    bytes_sent: int = 0
    bytes_mounted: int = 0
    bytes_there: int = 0
    bytes_sent_again: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReceipt:
    """One object of the bucket: ``digest`` is of the signed file, ``checksum`` is S3's."""

    key: str
    size: int
    digest: Digest
    checksum: str
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartReceipt:
    """The Helm release as publish left it."""

    namespace: str
    release: str
    chart: str
    revision: int
    values_digest: Digest
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustReceipt:
    """By what a release was judged; keys by the sha256 of their SubjectPublicKeyInfo.

    Attributes:
        version: Of the trust file; 0 where a person gave keys.
        threshold: How many of ``keys`` must have signed.
        keys: Whose signatures count.
        signed: Which of them signed.
    """

    version: int
    threshold: int
    keys: tuple[Digest, ...]
    signed: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one run of publish did.

    Attributes:
        release: Name of the release's directory.
        manifest: Digest of its manifest.
        sequence: Its place among the vendor's releases.
        signatures: ``key8`` of each key that vouched for it.
        trust: Who they are, and by what they were trusted; receipts of earlier versions do not say.
        time: UTC seconds at which the run began.
        tool: Version of the command.
        bucket: Where objects went, as an s3:// address.
        store_checks_content: Whether the store itself refuses wrong bytes; else what was sent was
            read back. None where no checkpoint was sent or marked: then the store was not asked.
        images_read_back: Whether every blob of ``images`` was read at the registry, and hashed;
            receipts of earlier versions do not say. Else its size was asked for.
        allowances: What was allowed by name although it is stale, with the reason.
        done: Each step that was carried out, in words.
        chart: None where the run was not about the chart: it says nothing of what is deployed.
    """

    release: str
    manifest: Digest
    sequence: int
    signatures: tuple[str, ...]
    time: str
    tool: str
    bucket: str
    store_checks_content: bool | None
    images: tuple[ImageReceipt, ...]
    objects: tuple[ObjectReceipt, ...]
    chart: ChartReceipt | None
    trust: TrustReceipt | None = None
    images_read_back: bool = False
    allowances: tuple[str, ...] = ()
    done: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        utc_time(self.time)

    @property
    def name(self) -> str:
        """A name that sorts by time: ``<time>-<8 hex digits of the content's digest>``."""
        compact = self.time.replace("-", "").replace(":", "")
        return f"{compact}-{Digest.of(encode_receipt(self)).hex[:8]}"

    @property
    def file_name(self) -> str:
        """What its file on this machine is called."""
        return f"{self.release}-{self.name}.receipt.json"


def encode_receipt(receipt: Receipt) -> bytes:
    """Give the one byte string that stands for a receipt."""
    return write_json(
        {
            "formatVersion": _FORMAT_VERSION,
            "release": receipt.release,
            "manifestSha256": receipt.manifest.hex,
            "sequence": receipt.sequence,
            "signatures": list(receipt.signatures),
            "time": receipt.time,
            "tool": receipt.tool,
            "bucket": receipt.bucket,
            "images": [_from_image(image) for image in receipt.images],
            "imagesReadBack": receipt.images_read_back,
            "objects": [_from_object(item) for item in receipt.objects],
            "allowances": list(receipt.allowances),
            "done": list(receipt.done),
        }
        | _unless_none("storeChecksContent", receipt.store_checks_content)
        | _unless_none("chart", receipt.chart and _from_chart(receipt.chart))
        | _unless_none("trust", receipt.trust and _from_trust(receipt.trust))
    )


def decode_receipt(content: bytes, *, name: str) -> Receipt:
    """Read a receipt; fields that this version does not know are ignored.

    Raises:
        MalformedError: It is not a receipt.
    """
    table = read_json(content, name=name, limit=MAX_RECEIPT_BYTES).table()
    table.integer("formatVersion", _FORMAT_VERSION, _FORMAT_VERSION)
    return table.explain(
        lambda: Receipt(
            release=table.text("release"),
            manifest=table.parse("manifestSha256", Digest),
            sequence=table.integer("sequence", 1, MAX_INTEGER),
            signatures=table.texts("signatures"),
            time=table.text("time"),
            tool=table.text("tool"),
            bucket=table.text("bucket"),
            store_checks_content=(
                table.flag("storeChecksContent") if "storeChecksContent" in table else None
            ),
            images=tuple(map(_to_image, table.tables("images"))),
            images_read_back="imagesReadBack" in table and table.flag("imagesReadBack"),
            objects=tuple(map(_to_object, table.tables("objects"))),
            chart=_to_chart(table.table("chart")) if "chart" in table else None,
            trust=_to_trust(table.table("trust")) if "trust" in table else None,
            allowances=table.texts("allowances"),
            done=table.texts("done"),
        )
    )


def _unless_none(key: str, value: object) -> dict[str, object]:
    return {} if value is None else {key: value}


def _from_image(image: ImageReceipt) -> dict[str, object]:
    return {
        "name": image.tag.name,
        "tag": image.tag.tag,
        "sourceDigest": str(image.source_digest),
        "digest": str(image.digest),
        "reference": image.reference,
        "sent": image.sent,
        "bytesSent": image.bytes_sent,
        "bytesMounted": image.bytes_mounted,
        "bytesThere": image.bytes_there,
        "bytesSentAgain": image.bytes_sent_again,
    }


def _to_image(table: Table) -> ImageReceipt:
    return ImageReceipt(
        tag=table.explain(lambda: ImageTag(table.text("name"), table.text("tag"))),
        source_digest=table.parse("sourceDigest", Digest.parse),
        digest=table.parse("digest", Digest.parse),
        reference=table.text("reference"),
        sent=table.flag("sent"),
        bytes_sent=table.integer("bytesSent", 0, MAX_INTEGER, 0),
        bytes_mounted=table.integer("bytesMounted", 0, MAX_INTEGER, 0),
        bytes_there=table.integer("bytesThere", 0, MAX_INTEGER, 0),
        bytes_sent_again=table.integer("bytesSentAgain", 0, MAX_INTEGER, 0),
    )


def _from_object(item: ObjectReceipt) -> dict[str, object]:
    return {
        "key": item.key,
        "size": item.size,
        "sha256": item.digest.hex,
        "checksum": item.checksum,
        "sent": item.sent,
    }


def _to_object(table: Table) -> ObjectReceipt:
    return ObjectReceipt(
        key=table.text("key"),
        size=table.integer("size", 0, MAX_INTEGER),
        digest=table.parse("sha256", Digest),
        checksum=table.text("checksum"),
        sent=table.flag("sent"),
    )


def _from_chart(chart: ChartReceipt) -> dict[str, object]:
    return {
        "namespace": chart.namespace,
        "release": chart.release,
        "chart": chart.chart,
        "revision": chart.revision,
        "valuesSha256": chart.values_digest.hex,
        "changed": chart.changed,
    }


def _to_chart(table: Table) -> ChartReceipt:
    return ChartReceipt(
        namespace=table.text("namespace"),
        release=table.text("release"),
        chart=table.text("chart"),
        revision=table.integer("revision", 0, MAX_INTEGER),
        values_digest=table.parse("valuesSha256", Digest),
        changed=table.flag("changed"),
    )


def _from_trust(trust: TrustReceipt) -> dict[str, object]:
    return {
        "version": trust.version,
        "threshold": trust.threshold,
        "keys": [key.hex for key in trust.keys],
        "signed": [key.hex for key in trust.signed],
    }


def _to_trust(table: Table) -> TrustReceipt:
    return TrustReceipt(
        version=table.integer("version", 0, MAX_INTEGER),
        threshold=table.integer("threshold", 1, MAX_INTEGER),
        keys=table.explain(lambda: tuple(map(Digest, table.texts("keys"))), "keys"),
        signed=table.explain(lambda: tuple(map(Digest, table.texts("signed"))), "signed"),
    )
