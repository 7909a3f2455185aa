"""The command line and the environment: vLLM's names, and a refusal of every other."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Flags of vLLM's server that mean nothing without an engine: taken, shown in the log, not used.
_UNUSED_WITH_VALUE = (
    "--block-size",
    "--chat-template",
    "--chat-template-content-format",
    "--config-format",
    "--cpu-offload-gb",
    "--data-parallel-size",
    "--disable-access-log-for-endpoints",
    "--distributed-executor-backend",
    "--download-dir",
    "--dtype",
    "--generation-config",
    "--gpu-memory-utilization",
    "--hf-overrides",
    "--kv-cache-dtype",
    "--load-format",
    "--max-logprobs",
    "--max-num-batched-tokens",
    "--max-num-seqs",
    "--override-generation-config",
    "--pipeline-parallel-size",
    "--quantization",
    "--reasoning-parser",
    "--revision",
    "--seed",
    "--shutdown-timeout",
    "--speculative-config",
    "--swap-space",
    "--tensor-parallel-size",
    "--tokenizer",
    "--tokenizer-mode",
    "--tool-call-parser",
    "--uvicorn-log-level",
)
_UNUSED_SWITCHES = (
    "--async-scheduling",
    "--disable-custom-all-reduce",
    "--disable-log-requests",
    "--disable-log-stats",
    "--disable-uvicorn-access-log",
    "--enable-auto-tool-choice",
    "--enable-chunked-prefill",
    "--enable-expert-parallel",
    "--enable-log-requests",
    "--enable-prefix-caching",
    "--enforce-eager",
    "--no-enable-chunked-prefill",
    "--no-enable-prefix-caching",
    "--trust-remote-code",
)
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)", re.ASCII)
_SCALE = {"": 1, "k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line and the environment ask for.

    Attributes:
        model: Directory of the checkpoint.
        served_names: Names by which requests may call the model; at least one.
        host: Address to listen on.
        port: Port to listen on; 0 lets the system choose.
        max_model_len: Longest context in tokens; None leaves it to the checkpoint.
        api_keys: Keys of which a request to ``/v1`` must show one; empty asks for none.
        unused: Flags that were taken and have no effect here, with their values.
    """

    model: Path
    served_names: tuple[str, ...]
    host: str
    port: int
    max_model_len: int | None
    api_keys: tuple[str, ...] = field(repr=False)
    unused: Mapping[str, str]


def parse_arguments(argv: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Read the command line; leave with status 2 and a line on stderr where it is wrong.

    A flag may be written with ``_`` for ``-`` and with ``=`` before its value, as in vLLM.
    """
    given = _parser().parse_args([_with_dashes(argument) for argument in argv])
    unused = {
        flag: str(value)
        for flag in _UNUSED_WITH_VALUE + _UNUSED_SWITCHES
        if (value := getattr(given, _attribute(flag))) not in (None, False)
    }
    keys = given.api_key or [environment.get("VLLM_API_KEY", "")]
    return Options(
        model=given.model,
        served_names=tuple(given.served_model_name or [str(given.model)]),
        host=given.host,
        port=given.port,
        max_model_len=given.max_model_len,
        api_keys=tuple(key for key in keys if key),
        unused=unused,
    )


def visible_gpus(environment: Mapping[str, str]) -> int | None:
    """Count the GPUs that the container runtime says it gave; None where it does not say."""
    value = environment.get("NVIDIA_VISIBLE_DEVICES")
    if value is None or value == "all":
        return None
    return len([name for name in value.split(",") if name not in ("", "none", "void")])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="atlas",
        allow_abbrev=False,
        description="Stand-in for an inference server: the contract of vLLM's server, no engine.",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--served-model-name", nargs="+", metavar="NAME")
    parser.add_argument("--host", default="0.0.0.0", metavar="ADDRESS")
    parser.add_argument("--port", type=_port, default=8000)
    parser.add_argument("--max-model-len", type=_length, metavar="TOKENS")
    parser.add_argument("--api-key", nargs="+", metavar="KEY", help="better: env VLLM_API_KEY")
    unused = parser.add_argument_group("flags of vLLM without effect here")
    for flag in _UNUSED_WITH_VALUE:
        unused.add_argument(flag, metavar="VALUE")
    for flag in _UNUSED_SWITCHES:
        unused.add_argument(flag, action="store_true")
    return parser


def _with_dashes(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else argument


def _attribute(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _length(text: str) -> int:
    match = _LENGTH.fullmatch(text)
    tokens = int(float(match[1]) * _SCALE[match[2]]) if match else 0
    if tokens < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens")
    return tokens
