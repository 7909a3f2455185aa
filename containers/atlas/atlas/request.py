"""What a client may ask for: bodies of the two completion calls, checked and put in one form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from atlas.generation import count_tokens

_MAX_CHOICES = 16
_COMPLETION_TOKENS = 16


class RequestError(Exception):
    """A request that gets an error in OpenAI's form.

    Attributes:
        status: HTTP status.
        kind: Class of the error, as vLLM names it.
        param: Field of the request that is at fault; None where there is no such field.
    """

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A checked request.

    Attributes:
        model: Name that the client used.
        prompts: One or more; a chat is one.
        choices: Answers to each prompt.
        max_tokens: Most tokens of an answer; None where the client set no limit.
        stop: Texts before which an answer ends.
        seed: What the client wants answers to depend on besides the prompt.
        stream: Whether to send the answer piece by piece.
        stream_usage: Whether a stream ends with the count of tokens.
    """

    model: str
    prompts: tuple[str, ...]
    choices: int
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    stream: bool
    stream_usage: bool

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(count_tokens(prompt) for prompt in self.prompts)


def parse_chat(body: bytes) -> Generation:
    """Read the body of ``/v1/chat/completions``.

    Raises:
        RequestError: It is not one.
    """
    fields = _fields(body)
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _bad("messages must be a list of at least one message", "messages")
    prompt = "\n".join(_message(message) for message in messages)
    limit = _count(fields, "max_completion_tokens") or _count(fields, "max_tokens")
    return _generation(fields, (prompt,), limit)


def parse_completion(body: bytes) -> Generation:
    """Read the body of ``/v1/completions``.

    Raises:
        RequestError: It is not one.
    """
    fields = _fields(body)
    prompts = _prompts(fields.get("prompt"))
    return _generation(fields, prompts, _count(fields, "max_tokens") or _COMPLETION_TOKENS)


def _generation(
    fields: dict[str, Any], prompts: tuple[str, ...], max_tokens: int | None
) -> Generation:
    model = fields.get("model")
    if not isinstance(model, str):
        raise _bad("model must be a text", "model")
    choices = _count(fields, "n") or 1
    if choices > _MAX_CHOICES:
        raise _bad(f"n must be at most {_MAX_CHOICES}, got {choices}", "n")
    options = fields.get("stream_options") or {}
    return Generation(
        model=model,
        prompts=prompts,
        choices=choices,
        max_tokens=max_tokens,
        stop=_stop(fields.get("stop")),
        seed=_integer(fields, "seed"),
        stream=fields.get("stream") is True,
        stream_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise _bad("the body is not a JSON object")
    return fields


def _message(message: object) -> str:
    match message:
        case {"role": str(role), "content": str(content)}:
            return f"{role}: {content}"
        case {"role": str(role), "content": list(parts)}:
            return f"{role}: " + " ".join(_part(part) for part in parts)
        case {"role": str(role), **rest} if rest.get("content") is None:
            return f"{role}: {json.dumps(rest, sort_keys=True)}"
    raise _bad("a message must have a role and a content", "messages")


def _part(part: object) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
    raise _bad("a part of a content must be of type text", "messages")


def _prompts(prompt: object) -> tuple[str, ...]:
    match prompt:
        case [str() | list(), *_]:
            return tuple(_prompt(one) for one in prompt)
    return (_prompt(prompt),)


def _prompt(prompt: object) -> str:
    match prompt:
        case str():
            return prompt
        case [int(), *_] if all(isinstance(token, int) for token in prompt):
            return " ".join(map(str, prompt))
    raise _bad("prompt must be a text, a list of token numbers or a list of those", "prompt")


def _stop(stop: object) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _bad("stop must be a text or a list of texts", "stop")
    return tuple(texts)


def _count(fields: dict[str, Any], name: str) -> int | None:
    value = _integer(fields, name)
    if value is not None and value < 1:
        raise _bad(f"{name} must be at least 1, got {value}", name)
    return value


def _integer(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and type(value) is not int:
        raise _bad(f"{name} must be a whole number", name)
    return value


def _bad(message: str, param: str | None = None) -> RequestError:
    return RequestError(400, "BadRequestError", message, param)
