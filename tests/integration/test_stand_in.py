"""The stand-in inference server keeps the contract of the server that it stands in for."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import IO, Any

import pytest

ATLAS = Path(__file__).parents[2] / "containers" / "atlas"
MAKE_MODELS = ATLAS.parents[1] / "scripts" / "make-models"
# The same on every machine, or a release could not be built twice.
GENERATED = "sha256:dc0a1d77fb31af776987c067850ccdb813c10263b1319fcea4cc626b19152fc4"
KEY = "a-key-that-nobody-may-see"
Entry = dict[str, Any]


def write_safetensors(path: Path, header: dict[str, Entry], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def tensor(begin: int, end: int, dtype: str = "U8") -> Entry:
    width = {"U8": 1, "BF16": 2}.get(dtype, 1)
    return {"dtype": dtype, "shape": [(end - begin) // width], "data_offsets": [begin, end]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Give a checkpoint of two shards with an index."""
    folder = tmp_path / "model"
    folder.mkdir()
    first = {"a": tensor(0, 64), "b": tensor(64, 192, "BF16")}
    write_safetensors(folder / "model-1.safetensors", first, bytes(range(192)))
    write_safetensors(folder / "model-2.safetensors", {"c": tensor(0, 100)}, bytes(100))
    weight_map = dict.fromkeys("ab", "model-1.safetensors") | {"c": "model-2.safetensors"}
    index = {"metadata": {"total_size": 292}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"max_position_embeddings": 4096}')
    return folder


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Atlas:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str, key: str | None = None) -> Reply:
        return self._ask("GET", path, None, key)

    def post(self, path: str, body: object, key: str | None = None) -> Reply:
        return self._ask("POST", path, json.dumps(body).encode(), key)

    def post_raw(self, path: str, body: bytes) -> Reply:
        return self._ask("POST", path, body, None)

    def answer(self, **fields: object) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]} | fields
        reply = self.post("/v1/chat/completions", body)
        text: str = reply.json["choices"][0]["message"]["content"]
        return text

    def _ask(self, method: str, path: str, body: bytes | None, key: str | None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.getheaders()), reply.read())


def command(model: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "atlas", "--model", str(model), "--port", "0", *flags]


def environment(**variables: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ATLAS), **variables}


def read_port(log: IO[str], process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 20
    text = ""
    while time.monotonic() < deadline and process.poll() is None:
        text += log.read()
        if found := re.search(r"ready on port (\d+)", text):
            return int(found[1])
        time.sleep(0.02)
    pytest.fail(f"the server did not start:\n{text}{log.read()}")


@contextlib.contextmanager
def running(model: Path, *flags: str, **variables: str) -> Iterator[Atlas]:
    log = model.parent / f"log-{time.monotonic_ns()}"
    argv = command(model, "--served-model-name", "m", *flags)
    with log.open("wb") as sink:
        process = subprocess.Popen(argv, env=environment(**variables), stdout=sink, stderr=sink)
    try:
        with log.open() as text:
            port = read_port(text, process)
        yield Atlas(process, port, log)
    finally:
        process.kill()
        process.wait()


def refusal(model: Path, *flags: str) -> tuple[int, str]:
    done = subprocess.run(
        command(model, *flags), env=environment(), capture_output=True, text=True, timeout=20
    )
    return done.returncode, done.stderr


def test_the_charts_arguments_are_taken_in_either_form_and_others_refused(model: Path) -> None:
    chart = ["--max-num-seqs", "64", "--enable-auto-tool-choice", "--tool-call-parser=poolside_v1"]
    with running(model, *chart, "--reasoning_parser=poolside_v1", "--max-model-len=8k") as atlas:
        assert atlas.get("/v1/models").json["data"][0]["max_model_len"] == 8000
    status, stderr = refusal(model, "--max-nmu-seqs", "64")
    assert status == 2
    assert "unrecognized arguments: --max-nmu-seqs 64" in stderr


def test_health_version_and_models(model: Path) -> None:
    with running(model, NVIDIA_VISIBLE_DEVICES="0,1,2,3") as atlas:
        assert atlas.get("/health").status == 200
        version = atlas.get("/version").json
        assert version["stand_in"] is True
        assert version["gpus"] == 4
        assert version["weights"]["tensors"] == 3
        assert version["weights"]["bytes"] == 292
        (entry,) = atlas.get("/v1/models").json["data"]
        assert (entry["id"], entry["root"], entry["max_model_len"]) == ("m", str(model), 4096)
        assert "STAND-IN" in atlas.log.read_text()


def test_without_the_key_v1_is_closed_and_nothing_logs_it(model: Path) -> None:
    with running(model, VLLM_API_KEY=KEY) as atlas:
        chat = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        for key in (None, "", KEY[:-1], KEY + "x", "é"):
            reply = atlas.get("/v1/models", key)
            assert reply.status == 401
            assert reply.json["error"]["code"] == 401
        assert atlas.post("/v1/chat/completions", chat).status == 401
        assert atlas.get("/v1/no-such-path").status == 401
        assert atlas.get("/v1/models", KEY).status == 200
        assert atlas.post("/v1/chat/completions", chat, KEY).status == 200
        assert atlas.get("/health").status == 200
    assert KEY not in atlas.log.read_text()


def test_a_key_given_as_a_flag_is_not_logged_either(model: Path) -> None:
    with running(model, "--api-key", KEY) as atlas:
        assert atlas.get("/v1/models").status == 401
        assert atlas.get("/v1/models", KEY).status == 200
    assert KEY not in atlas.log.read_text()


def test_completions_have_openais_form(model: Path) -> None:
    with running(model) as atlas:
        chat = {"model": "m", "messages": [{"role": "user", "content": "two words"}]}
        reply = atlas.post("/v1/chat/completions", chat).json
        assert reply["object"] == "chat.completion"
        assert reply["choices"][0]["message"]["role"] == "assistant"
        assert reply["choices"][0]["message"]["content"].startswith("[stand-in] ")
        assert reply["choices"][0]["finish_reason"] == "stop"
        usage = reply["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        request = {"model": "m", "prompt": ["one", [1, 2]], "n": 2, "max_tokens": 3}
        reply = atlas.post("/v1/completions", request).json
        assert reply["object"] == "text_completion"
        assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
        assert {choice["finish_reason"] for choice in reply["choices"]} == {"length"}
        assert len({choice["text"] for choice in reply["choices"]}) == 4


def test_a_stream_says_the_same_as_one_answer(model: Path) -> None:
    with running(model) as atlas:
        chat = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        options = {"stream": True, "stream_options": {"include_usage": True}}
        reply = atlas.post("/v1/chat/completions", chat | options)
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        events = reply.body.decode().split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        assert text == atlas.answer()
        assert choices[-1]["finish_reason"] == "stop"
        assert chunks[-1]["usage"]["completion_tokens"] == len(text.split())


def test_wrong_requests_get_an_error_in_openais_form(model: Path) -> None:
    with running(model) as atlas:
        messages = [{"role": "user", "content": "Hello"}]
        chat, completion = "/v1/chat/completions", "/v1/completions"
        wrong: list[tuple[str, object, int, str]] = [
            (chat, {"model": "other", "messages": messages}, 404, "`other` does not exist"),
            (chat, {"model": "m"}, 400, "messages"),
            (chat, {"model": "m", "messages": [{"content": "x"}]}, 400, "role"),
            (chat, {"messages": messages}, 400, "model"),
            (chat, {"model": "m", "messages": messages, "n": 99}, 400, "at most 16"),
            (completion, {"model": "m", "prompt": {}}, 400, "prompt"),
            (completion, {"model": "m", "prompt": "x", "max_tokens": -1}, 400, "at least 1"),
            (completion, {"model": "m", "prompt": "x", "max_tokens": 5000}, 400, "4096"),
            (completion, [], 400, "object"),
            ("/v1/embeddings", {}, 404, "path"),
        ]
        for path, body, status, words in wrong:
            reply = atlas.post(path, body)
            assert reply.status == status, body
            assert reply.json["error"]["code"] == status
            assert words in reply.json["error"]["message"]
        assert atlas.post_raw(chat, b"{").json["error"]["message"] == "the body is not JSON"


@pytest.mark.parametrize("place", [0, 63, 64, 191])
def test_one_other_byte_in_any_tensor_gives_another_answer(model: Path, place: int) -> None:
    with running(model) as atlas:
        before = atlas.answer()
        assert before == atlas.answer()
    shard = model / "model-1.safetensors"
    content = bytearray(shard.read_bytes())
    content[len(content) - 192 + place] ^= 1
    shard.write_bytes(content)
    with running(model) as atlas:
        assert atlas.answer() != before


def test_the_answer_depends_on_the_question_and_not_on_how_tensors_are_sharded(
    model: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    whole = {"a": tensor(0, 64), "b": tensor(64, 192, "BF16"), "c": tensor(192, 292)}
    write_safetensors(one / "model.safetensors", whole, bytes(range(192)) + bytes(100))
    with running(model) as sharded, running(one) as single:
        assert sharded.answer() == single.answer()
        assert sharded.answer() != sharded.answer(seed=1)
        assert sharded.answer() != sharded.answer(messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"x": tensor(0, 8), "y": tensor(9, 17)}, 17, "gap or overlap"),
        ({"x": tensor(0, 8), "y": tensor(7, 15)}, 15, "gap or overlap"),
        ({"x": tensor(0, 8)}, 9, "gap or overlap"),
        ({"x": tensor(0, 8)}, 7, "gap or overlap"),
        ({"x": tensor(1, 8)}, 8, "gap or overlap"),
        ({"x": tensor(0, 8) | {"shape": [9]}}, 8, "takes 72 bits"),
        ({"x": tensor(0, 8) | {"shape": [-8]}}, 8, "not one of lengths"),
        ({"x": tensor(0, 8, "F7")}, 8, "unknown dtype 'F7'"),
        ({"x": {"dtype": "U8"}}, 8, "data_offsets"),
        ({"a": tensor(0, 8)}, 8, "is in extra.safetensors too"),
    ],
)
def test_a_malformed_file_ends_the_start_with_one_line(
    model: Path, header: dict[str, Entry], data: int, words: str
) -> None:
    (model / "model.safetensors.index.json").unlink()
    write_safetensors(model / "extra.safetensors", header, bytes(data))
    status, stderr = refusal(model)
    assert status == 1
    (line,) = [line for line in stderr.splitlines() if line.startswith("atlas: error: ")]
    assert words in line
    assert "Traceback" not in stderr


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 16, b"\x02" + b"\0" * 7 + b"[]"])
def test_a_file_that_is_no_safetensors_is_refused(model: Path, content: bytes) -> None:
    (model / "model-2.safetensors").write_bytes(content)
    status, stderr = refusal(model)
    assert status == 1
    assert "atlas: error: model-2.safetensors: " in stderr


def test_a_shard_that_the_index_names_must_be_there(model: Path) -> None:
    (model / "model-2.safetensors").unlink()
    status, stderr = refusal(model)
    assert status == 1
    assert "tensor 'c' should be in model-2.safetensors, it is in no file" in stderr


def test_a_tensor_that_the_index_does_not_name_is_refused(model: Path) -> None:
    write_safetensors(model / "model-3.safetensors", {"d": tensor(0, 4)}, bytes(4))
    status, stderr = refusal(model)
    assert status == 1
    assert "does not name tensor 'd' of model-3.safetensors" in stderr


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    status, stderr = refusal(tmp_path)
    assert status == 1
    assert "no *.safetensors file" in stderr


def test_the_generated_model_of_the_demo_loads_and_is_always_the_same(tmp_path: Path) -> None:
    loader = SourceFileLoader("make_models", str(MAKE_MODELS))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    make_models = importlib.util.module_from_spec(spec)
    loader.exec_module(make_models)
    folder = tmp_path / "tiny-sharded"
    folder.mkdir()
    make_models.generate_sharded(folder)
    assert len(list(folder.glob("model-0000?-of-00003.safetensors"))) == 3
    with running(folder) as atlas:
        assert atlas.get("/version").json["weights"]["digest"] == GENERATED


def test_sigterm_ends_it_at_once_with_status_0(model: Path) -> None:
    with running(model) as atlas:
        started = time.monotonic()
        atlas.process.send_signal(signal.SIGTERM)
        assert atlas.process.wait(10) == 0
        assert time.monotonic() - started < 3
        assert "stopped" in atlas.log.read_text()
