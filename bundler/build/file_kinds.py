"""Which files may lie in a checkpoint: told by name, and by the first bytes."""

from __future__ import annotations

from pathlib import PurePosixPath

MAGIC_BYTES = 8

_PICKLES = "pickle (it runs code when it is loaded)"
_ARCHIVE = "archive"
_PROGRAM = "program"
_KINDS_OF_SUFFIXES = {
    ".bin .ckpt .dill .joblib .mar .nemo .npy .npz .pickle .pkl .pt .pt2 .pth": _PICKLES,
    ".h5 .hdf5 .keras": "Keras file (it can run code when it is loaded)",
    ".7z .gz .tar .tgz .xz .zip .zst": _ARCHIVE,
    ".dll .dylib .exe .py .pyc .sh .so": _PROGRAM,
}
_BY_SUFFIX = {
    suffix: kind for suffixes, kind in _KINDS_OF_SUFFIXES.items() for suffix in suffixes.split()
}
_BY_MAGIC = (
    # Source: CPython, Lib/pickle.py, PROTO and the protocols 2 to 5. Older ones have no mark.
    *((bytes((0x80, protocol)), _PICKLES) for protocol in range(2, 6)),
    (b"\x93NUMPY", _PICKLES),
    (b"PK\x03\x04", "zip archive (PyTorch keeps pickles in one)"),
    (b"PK\x05\x06", "zip archive"),
    (b"\x89HDF\r\n\x1a\n", "HDF5 file (it can run code when it is loaded)"),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (b"\x1f\x8b", _ARCHIVE),
    (b"\x7fELF", _PROGRAM),
)
_KNOWN_SUFFIXES = frozenset(
    {".jinja", ".json", ".md", ".model", ".safetensors", ".tiktoken", ".txt", ".yaml", ".yml"}
)
_KNOWN_NAMES = frozenset({"LICENSE", "NOTICE", "README", "USE_POLICY"})


def refused_name(path: str) -> str | None:
    """Say what a file is that only an explicit word lets in; None for any other."""
    if any(part.startswith(".") for part in path.split("/")):
        return "hidden file"
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower())


def refused_content(first: bytes) -> str | None:
    """Say the same by a file's first ``MAGIC_BYTES`` bytes, whatever its name is.

    Not for safetensors, whose first bytes are a number, and which have their own strict reader.
    """
    return next((kind for magic, kind in _BY_MAGIC if first.startswith(magic)), None)


def known_to_servers(path: str) -> bool:
    """Tell whether model servers and downloaders commonly know such a file."""
    pure = PurePosixPath(path)
    in_tokenizer = "tokenizer" in pure.parts[:-1]
    return in_tokenizer or pure.suffix.lower() in _KNOWN_SUFFIXES or pure.name in _KNOWN_NAMES
