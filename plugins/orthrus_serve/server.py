"""The server: listens, starts the decoding process, and serves until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection

import typer
import uvicorn

from orthrus import BuildError, InputError, echo
from orthrus.ranks.launch import launched
from orthrus_serve.admission import Admission
from orthrus_serve.application import make_application
from orthrus_serve.decoding.client import DecodingClient
from orthrus_serve.decoding.messages import Model
from orthrus_serve.decoding.start import DecodingProcess, DecodingSettings, start_decoding
from orthrus_serve.metrics import Metrics
from orthrus_serve.settings import LOCAL, ServerSettings
from orthrus_serve.state import ServerState

FAILED = 2  # exit code
CONNECTIONS = 2048  # that wait to be taken
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_server(settings: ServerSettings) -> None:
    """Serve until a signal comes; raise InputError if the port cannot be had, BuildError if nobody decodes."""
    say = partial(echo, err=True)
    listening = listen(settings.host, settings.port)
    with listening:
        decoding = _started(settings, say)
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(serve(settings, decoding, listening))
        finally:
            decoding.end()


def _started(settings: ServerSettings, say: Callable[[str], None]) -> DecodingProcess:
    try:
        return start_decoding(DecodingSettings(settings.config, settings.overrides, settings.batch), say)
    except BuildError:
        _leave_to_the_ranks()
        raise


def _leave_to_the_ranks() -> None:
    """Exit with nothing said, if several processes decode: one of these has said why, or will."""
    if launched() is not None:
        raise typer.Exit(FAILED)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes event loops: those of uvloop, which take less time, where it is installed; None: asyncio's."""
    if find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that has the address, before anything slow is begun; raise InputError if it cannot be had.

    Nobody is let in yet: whoever asks while a model is loaded is to be refused, and not to wait.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host: there is no address '{host}': {error}") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise _taken(host, port, error) from error
    return listening


def _taken(host: str, port: int, error: OSError) -> InputError:
    return InputError(f"'{host}' port {port} cannot be listened to: {error.strerror}; choose another with --port")


async def serve(settings: ServerSettings, decoding: DecodingProcess, listening: socket.socket) -> None:
    """Serve a decoding process; raise BuildError if it ends before the server is told to."""
    say = partial(echo, err=True)
    client, server = make_server(settings, decoding.connection, decoding.model, say)
    watching = asyncio.ensure_future(_end_with(client, server))
    try:
        _open(settings, listening)
        await server.serve(sockets=[listening])
    finally:
        watching.cancel()
        told = client.alive
        client.close()
    if not told:
        _leave_to_the_ranks()
        raise BuildError("the decoding process ended unexpectedly; requests under way were refused")


def make_server(
    settings: ServerSettings, connection: Connection, model: Model, notify: Callable[[str], None]
) -> tuple[DecodingClient, uvicorn.Server]:
    """Return a client of the decoding at the other end of a pipe, and the server over it; in a running event loop."""
    slots = None if model.row_slots is None else model.row_slots * settings.batch
    metrics = Metrics(settings.model, slots)
    client = DecodingClient(connection, model, count=metrics.note, notify=notify)
    admission = Admission(settings.batch + settings.queue)
    state = ServerState(
        service=client,
        admission=admission,
        metrics=metrics,
        name=settings.model,
        created=int(time.time()),
        keys=settings.keys,
        most_bytes=settings.most_bytes,
        vllm_metrics=settings.vllm_metrics,
    )
    config = uvicorn.Config(make_application(state), log_level="warning", access_log=False, server_header=False)
    return client, GracefulServer(config)


class GracefulServer(uvicorn.Server):
    """A server that a first signal lets finish what runs, and a second one ends at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals meanwhile, and end by them with no error: to be told to end is none."""
        if threading.current_thread() is not threading.main_thread():  # which alone gets signals
            yield
            return
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)


async def _end_with(client: DecodingClient, server: uvicorn.Server) -> None:
    """Let the server end once nobody decodes."""
    await client.ended.wait()
    server.should_exit = True


def _open(settings: ServerSettings, listening: socket.socket) -> None:
    """Let clients in, and say where; raise InputError if another program took the port meanwhile."""
    try:
        listening.listen(CONNECTIONS)
    except OSError as error:
        raise _taken(settings.host, settings.port, error) from error
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    echo(f"serving '{settings.model}' at http://{shown}:{port}", err=True)
    if settings.host not in LOCAL and not settings.keys:
        echo("whoever reaches this address may use it: --api-key-file asks for a key", err=True)
