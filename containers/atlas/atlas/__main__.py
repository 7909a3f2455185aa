"""Load the checkpoint, then serve it until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType

from atlas import VERSION
from atlas.arguments import Options, parse_arguments, visible_gpus
from atlas.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from atlas.generation import Generator
from atlas.server import Server
from atlas.service import Service

_logger = logging.getLogger("atlas")
_DRAIN_SECONDS = 20.0


def main() -> None:
    """Run the server; leave with status 1 where the checkpoint or the address cannot be used."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    # As process 1 of a container we get only the signals that have a handler, also while loading.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    options = parse_arguments(sys.argv[1:], os.environ)
    gpus = visible_gpus(os.environ)
    _announce(options, gpus)
    try:
        checkpoint = load_checkpoint(options.model)
        server = _bind(options, checkpoint, gpus)
    except (CheckpointError, OSError) as error:
        sys.exit(f"atlas: error: {error}")
    _serve(server)


def _leave(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _announce(options: Options, gpus: int | None) -> None:
    _logger.warning(
        "atlas %s is a STAND-IN: no inference engine, its answers mean nothing", VERSION
    )
    _logger.info("options: %s", options)
    _logger.info("GPUs of this container: %s", "not told" if gpus is None else gpus)


def _bind(options: Options, checkpoint: Checkpoint, gpus: int | None) -> Server:
    service = Service(
        names=options.served_names,
        root=str(options.model),
        max_model_len=options.max_model_len or checkpoint.max_positions,
        api_keys=options.api_keys,
        gpus=gpus,
        checkpoint=checkpoint,
        generator=Generator(checkpoint.digest),
    )
    return Server((options.host, options.port), service)


def _serve(server: Server) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: stop.set())
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
    ).start()
    _logger.info("ready on port %d", server.server_address[1])
    stop.wait()
    server.shutdown()
    server.server_close()
    finished = server.wait_idle(_DRAIN_SECONDS)
    _logger.info("stopped%s", "" if finished else ", with requests unfinished")


if __name__ == "__main__":
    main()
