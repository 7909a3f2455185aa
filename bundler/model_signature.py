"""What an OpenSSF model signature of a checkpoint is over: the files as they are unpacked."""

from __future__ import annotations

import hashlib

from bundler.jsontext import write_json
from bundler.manifest import Checkpoint, CheckpointFile

MODEL_SIGNATURE_TYPE = "https://model_signing/signature/v1.0"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# What its verifier does not look at unless told to, and then misses where it is listed.
_UNSEEN = (".git", ".gitattributes", ".github", ".gitignore")


def model_signature_name(checkpoint: Checkpoint, key8: str) -> str:
    """Name the file that holds a key's signature of a checkpoint."""
    return f"{checkpoint.name}.{key8}.oms.json"


def model_statement(checkpoint: Checkpoint) -> bytes:
    """List the files of a checkpoint without the archive's top directory.

    Git's own files in that directory are left out, and named as ignored: ``model_signing verify``
    leaves them out by itself.

    Source:
        OpenSSF model signing, docs/model_signing_format.md, method ``files``.
    """
    signed = [file for file in checkpoint.files if _top(file) not in _UNSEEN]
    ignored = sorted({_top(file) for file in checkpoint.files} & set(_UNSEEN))
    root = hashlib.sha256(b"".join(file.digest.raw for file in signed)).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    return write_json(
        {
            "_type": _STATEMENT_TYPE,
            "subject": [{"name": checkpoint.root, "digest": {"sha256": root}}],
            "predicateType": MODEL_SIGNATURE_TYPE,
            "predicate": {
                "serialization": serialization | ({"ignore_paths": ignored} if ignored else {}),
                "resources": [
                    {"name": file.path, "algorithm": "sha256", "digest": file.digest.hex}
                    for file in signed
                ],
            },
        }
    )


def _top(file: CheckpointFile) -> str:
    return file.path.partition("/")[0]
