"""What the server answers, as values: no socket, no HTTP but for status numbers."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from atlas import VERSION
from atlas.checkpoint import Checkpoint
from atlas.generation import Answer, Generator
from atlas.request import Generation, RequestError

_NO_LIMIT = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One loaded checkpoint under its served names.

    Attributes:
        names: Names by which requests may call it; the first is the one in answers.
        root: Where the checkpoint was loaded from.
        max_model_len: Longest context in tokens; None for no limit.
        api_keys: Keys of which a request must show one; empty asks for none.
        gpus: GPUs of this container; None where nobody says.
    """

    names: tuple[str, ...]
    root: str
    max_model_len: int | None
    api_keys: tuple[str, ...] = field(repr=False)
    gpus: int | None
    checkpoint: Checkpoint
    generator: Generator

    def is_authorized(self, authorization: str | None) -> bool:
        """Tell whether an ``Authorization`` header shows a key; takes the same time for any."""
        if not self.api_keys:
            return True
        scheme, _, shown = (authorization or "").partition(" ")
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
        matches = [
            hmac.compare_digest(digest, hashlib.sha256(key.encode()).digest())
            for key in self.api_keys
        ]
        return scheme.lower() == "bearer" and any(matches)

    def version(self) -> dict[str, Any]:
        """Give the answer to ``/version``."""
        return {
            "version": VERSION,
            "stand_in": True,
            "gpus": self.gpus,
            "weights": {
                "digest": f"sha256:{self.checkpoint.digest.hex()}",
                "tensors": self.checkpoint.tensors,
                "bytes": self.checkpoint.size,
            },
        }

    def models(self) -> dict[str, Any]:
        """Give the answer to ``/v1/models``."""
        return {"object": "list", "data": [self._model(name) for name in self.names]}

    def answers(self, request: Generation) -> list[Answer]:
        """Answer every prompt as often as asked for, in the order of the choices' indices.

        Raises:
            RequestError: The model is not ours, or the context does not hold the request.
        """
        if request.model not in self.names:
            raise RequestError(
                404, "NotFoundError", f"The model `{request.model}` does not exist.", "model"
            )
        limit = self._limit(request)
        return [
            self.generator.answer(_key(request, prompt), choice, limit, request.stop)
            for prompt in request.prompts
            for choice in range(request.choices)
        ]

    def _limit(self, request: Generation) -> int:
        longest = self.max_model_len
        if longest is None:
            return request.max_tokens or _NO_LIMIT
        used = request.prompt_tokens
        if used + (request.max_tokens or 1) > longest:
            wanted = f"{used} of the prompt and {request.max_tokens or 1} of the answer"
            message = f"The context holds {longest} tokens, the request needs {wanted}."
            raise RequestError(400, "BadRequestError", message)
        return request.max_tokens or longest - used

    def _model(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "stand-in",
            "root": self.root,
            "parent": None,
            "max_model_len": self.max_model_len,
        }


@dataclass(frozen=True, slots=True)
class Shape:
    """How answers look: a chat's differ from a plain completion's in these names only.

    Attributes:
        chat: Whether it is a chat's.
        model: Name of the model in each object.
        fingerprint: What tells these weights from others.
        id: The same in all pieces of a stream.
    """

    chat: bool
    model: str
    fingerprint: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def whole(self, answers: list[Answer], request: Generation) -> dict[str, Any]:
        """Give all answers in one object."""
        choices = [
            self._choice(index, answer.finish_reason, self._message(answer.text, "message"))
            for index, answer in enumerate(answers)
        ]
        return {**self._head(streamed=False), "choices": choices, "usage": _usage(answers, request)}

    def stream(self, answers: list[Answer], request: Generation) -> Iterator[dict[str, Any]]:
        """Give the answers token by token, as the objects of an event stream."""
        head = self._head(streamed=True)
        for index, answer in enumerate(answers):
            for token in answer.tokens:
                yield head | {"choices": [self._choice(index, None, self._message(token, "delta"))]}
            last: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
            yield head | {"choices": [self._choice(index, answer.finish_reason, last)]}
        if request.stream_usage:
            yield head | {"choices": [], "usage": _usage(answers, request)}

    def _head(self, *, streamed: bool) -> dict[str, Any]:
        chat = "chat.completion.chunk" if streamed else "chat.completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": chat if self.chat else "text_completion",
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _message(self, text: str, name: str) -> dict[str, Any]:
        return {name: {"role": "assistant", "content": text}} if self.chat else {"text": text}

    def _choice(self, index: int, finish: str | None, content: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, **content, "logprobs": None, "finish_reason": finish}


def error_body(error: RequestError) -> dict[str, Any]:
    """Give an error in OpenAI's form."""
    return {
        "error": {
            "message": str(error),
            "type": error.kind,
            "param": error.param,
            "code": error.status,
        }
    }


def _key(request: Generation, prompt: str) -> bytes:
    return json.dumps([prompt, request.seed]).encode()


def _usage(answers: list[Answer], request: Generation) -> dict[str, int]:
    completion = sum(len(answer.tokens) for answer in answers)
    return {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": request.prompt_tokens + completion,
    }
