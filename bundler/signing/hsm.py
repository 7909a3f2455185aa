"""Keys in PKCS#11 tokens, such as an HSM or a smartcard; a PIN is tried once, and never again."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pkcs11 import exceptions as pkcs11_errors
from securesystemslib.signer import HSMSigner, SSlibKey

from bundler.errors import (
    BundleError,
    DeniedError,
    MalformedError,
    NotFoundError,
    WorldError,
    printable,
)
from bundler.signing.key_uri import HsmKey
from bundler.signing.keys import PublicKey, read_public_key

# Where the library that speaks PKCS#11 looks for the token's own module.
MODULE_VARIABLE = "PYKCS11LIB"
_SHOWN = 300
_HINT_MODULE = f"name the library of the token's maker: --pkcs11-module FILE, or {MODULE_VARIABLE}"
_HINT_PIN = (
    "tokens lock themselves after a few wrong PINs: make sure of the right one before you run this "
    "again"
)
_HINT_LOCKED = "whoever has the token's security officer PIN, or its PUK, can set a new one"
_HINT_SLOTS = "put the token in, or name it: hsm:ID?label=TOKEN; pkcs11-tool -L lists what is there"
_HINT_KEY = "hsm:ID names the key by its id, read as a number; pkcs11-tool -O lists what is there"
_HINT_AGAIN = "check that the token is in and its service runs, then run again"
# What a module answers, by the name of the exception: our class, our text, a hint.
_ANSWERS: dict[str, tuple[type[BundleError], str, str]] = {
    "PinIncorrect": (
        DeniedError,
        "the token says that the PIN is wrong; it was tried once, and not again",
        _HINT_PIN,
    ),
    "PinInvalid": (DeniedError, "the token takes no PIN of such characters", _HINT_PIN),
    "PinLenRange": (DeniedError, "the token takes no PIN of this length", _HINT_PIN),
    "PinLocked": (DeniedError, "the token is locked after too many wrong PINs", _HINT_LOCKED),
    "PinExpired": (DeniedError, "the PIN has expired", _HINT_LOCKED),
    "UserPinNotInitialized": (DeniedError, "the token has no PIN yet", _HINT_LOCKED),
    "NoSuchToken": (NotFoundError, "there is no such token", _HINT_SLOTS),
    "TokenNotPresent": (NotFoundError, "the token is gone", _HINT_AGAIN),
    "TokenNotRecognised": (NotFoundError, "what is in the slot is no token", _HINT_AGAIN),
    "DeviceRemoved": (WorldError, "the token is gone", _HINT_AGAIN),
    "MultipleTokensReturned": (WorldError, "expected one token, got several", _HINT_SLOTS),
    "NoSuchKey": (NotFoundError, "the token has no such key on an elliptic curve", _HINT_KEY),
    "MultipleObjectsReturned": (WorldError, "expected one key of this id, got several", _HINT_KEY),
    "SessionHandleInvalid": (WorldError, "the session with the token was lost", _HINT_AGAIN),
    "SessionClosed": (WorldError, "the session with the token was lost", _HINT_AGAIN),
}


class HsmSigner:
    """A key in a token; each signature opens a session of its own.

    Args:
        key: Which.
        signer: What talks to the token.
        public: The public half, as the token has it.
    """

    def __init__(self, key: HsmKey, signer: HSMSigner, public: PublicKey) -> None:
        self._key = key
        self._signer = signer
        self._public = public
        self._denied: DeniedError | None = None

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return self._public

    def sign(self, content: bytes) -> bytes:
        """Have the digest of ``content`` signed; in DER, verified by nobody yet.

        Raises:
            DeniedError: The token took not the PIN, now or before: it is not tried again.
            BundleError: The token is gone, or cannot sign.
        """
        if self._denied is not None:
            raise self._denied
        try:
            with _told(self._key):
                return bytes.fromhex(self._signer.sign(content).signature)
        except DeniedError as error:
            self._denied = error
            raise


class _Pin:
    """A PIN, asked for where it is first needed."""

    def __init__(self, key: HsmKey, secret: Callable[[str], bytes]) -> None:
        self._key = key
        self._secret = secret
        self._pin: str | None = None

    def __call__(self, what: str) -> str:
        if self._pin is None:
            try:
                self._pin = self._secret(f"PIN for {self._key}").decode()
            except UnicodeDecodeError:
                raise MalformedError(f"{printable(str(self._key))}: the PIN is not text") from None
        if not self._pin:
            raise DeniedError(f"{printable(str(self._key))}: expected a PIN, got none")
        return self._pin


def open_hsm(key: HsmKey, *, secret: Callable[[str], bytes], module: Path | None) -> HsmSigner:
    """Find a key in a token; the PIN is asked for only where its public half is hidden without.

    Args:
        key: Which.
        secret: Gives the PIN; asked once at most.
        module: The library of the token's maker; None for what ``PYKCS11LIB`` names.

    Raises:
        BundleError: The module, the token or the key is not there, or the key is not on P-256.
    """
    _choose_module(key, module)
    pin = _Pin(key, secret)
    with _told(key):
        _, public = HSMSigner.import_(key.key_id, key.token, pin)
        signer = HSMSigner(key.key_id, public, pin, key.token)
    return HsmSigner(key, signer, _public_key(key, public))


def _public_key(key: HsmKey, public: SSlibKey) -> PublicKey:
    return read_public_key(str(public.keyval["public"]).encode(), name=_shown(key))


def _choose_module(key: HsmKey, module: Path | None) -> None:
    """Tell the library, which knows but one way to be told, where the module is."""
    if module is not None:
        os.environ[MODULE_VARIABLE] = str(module.absolute())
    named = os.environ.get(MODULE_VARIABLE)
    if not named:
        raise NotFoundError(f"{_shown(key)}: no PKCS#11 module was named", hint=_HINT_MODULE)
    if not Path(named).is_file():
        raise NotFoundError(f"{printable(named)}: no such PKCS#11 module", hint=_HINT_MODULE)


@contextmanager
def _told(key: HsmKey) -> Iterator[None]:
    """Turn what the libraries raise into errors of ours; many of theirs have no text at all."""
    try:
        yield
    except pkcs11_errors.PKCS11Error as error:
        _let_go(error)
        raise _answered(key, error) from error
    except ValueError as error:
        _let_go(error)
        # HSMSigner tells the plain cases so, while it handles what the library below it raised.
        if isinstance(error.__context__, pkcs11_errors.PKCS11Error):
            raise _answered(key, error.__context__) from error
        raise MalformedError(f"{_shown(key)}: expected a key on P-256: {error}") from error


def _let_go(error: BaseException) -> None:
    """Drop what the libraries' frames hold: the PIN, and searches of a session that is over.

    Such a search would say so on standard error when it is dropped at last.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__context__
    sys.unraisablehook = hook


def _answered(key: HsmKey, error: BaseException) -> BundleError:
    name = type(error).__name__
    if name in _ANSWERS:
        kind, text, hint = _ANSWERS[name]
        return kind(f"{_shown(key)}: {text}", hint=hint)
    if str(error).startswith(("OS exception", "Unknown exception")):
        text = f"the PKCS#11 module cannot be used: {_said(error)}"
        return WorldError(f"{_shown(key)}: {text}", hint=_HINT_MODULE)
    text = f"the token failed: {name} {_said(error)}".strip()
    return WorldError(f"{_shown(key)}: {text}", hint=_HINT_AGAIN)


def _said(error: BaseException) -> str:
    return printable(str(error))[:_SHOWN]


def _shown(key: HsmKey) -> str:
    return printable(str(key))
