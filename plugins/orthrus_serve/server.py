"""The server: listens, starts the decoding process, and serves until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import typer
import uvicorn

from orthrus import BuildError, InputError, echo
from orthrus.ranks.launch import launched
from orthrus_serve.admission import Admission
from orthrus_serve.application import make_application
from orthrus_serve.decoding.client import DecodingClient
from orthrus_serve.decoding.messages import Model
from orthrus_serve.decoding.start import DecodingSettings, start_decoding
from orthrus_serve.listening import let_in, listen
from orthrus_serve.metrics import MetricFamilies, Metrics
from orthrus_serve.settings import ServerSettings
from orthrus_serve.state import ServerState

FAILED = 2  # exit code
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class DecodingPipe:
    """The way to a decoder in another process or thread, and what it is."""

    connection: Connection
    model: Model


def run_server(settings: ServerSettings) -> None:
    """Serve until a signal comes; raise InputError if the port cannot be had, BuildError if nobody decodes."""
    configs = settings.configs()
    if len(configs) > 1 and launched() is not None:
        raise InputError("models that torchrun's processes share cannot be compared by one server; leave --compare out")
    with listen(settings.host, settings.port) as listening, contextlib.ExitStack() as ending:
        decoders = {name: _start(settings, config, ending) for name, config in configs.items()}
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(settings, decoders, listening))


def _start(settings: ServerSettings, config: Path, ending: contextlib.ExitStack) -> DecodingPipe:
    """Return the way to a new decoding process, which ends with the server; raise BuildError if it cannot begin."""
    try:
        started = start_decoding(DecodingSettings(config, settings.overrides, settings.batch), partial(echo, err=True))
    except BuildError:
        _leave_to_the_ranks()
        raise
    ending.callback(started.end)
    ending.callback(started.connection.close)  # first: it is how the process is told, if nobody has told it yet
    return DecodingPipe(started.connection, started.model)


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


async def serve(settings: ServerSettings, decoders: Mapping[str, DecodingPipe], listening: socket.socket) -> None:
    """Serve decoding processes, by their models' names; raise BuildError if one ends before the server is told to."""
    clients, server = make_server(settings, decoders, partial(echo, err=True))
    watching = [asyncio.ensure_future(_end_with(client, server)) for client in clients]
    try:
        let_in(settings, list(decoders), listening)
        await server.serve(sockets=[listening])
    finally:
        for watch in watching:
            watch.cancel()
        told = all(client.alive for client in clients)
        for client in clients:
            client.close()
    if not told:
        _leave_to_the_ranks()
        raise BuildError("the decoding process ended unexpectedly; requests under way were refused")


def make_server(
    settings: ServerSettings, decoders: Mapping[str, DecodingPipe], notify: Callable[[str], None]
) -> tuple[Sequence[DecodingClient], uvicorn.Server]:
    """Return clients of decodings, by their models' names, and the server over them; in a running event loop."""
    families, clients, states = MetricFamilies(), [], dict[str, ServerState]()
    for name, pipe in decoders.items():
        slots = None if pipe.model.row_slots is None else pipe.model.row_slots * settings.batch
        metrics = Metrics(name, slots, families)
        clients.append(DecodingClient(pipe.connection, pipe.model, count=metrics.note, notify=notify))
        states[name] = _state(settings, name, clients[-1], metrics)
    first, *others = states
    state = replace(states[first], compared={name: states[name] for name in others})
    config = uvicorn.Config(make_application(state), log_level="warning", access_log=False, server_header=False)
    return clients, GracefulServer(config)


def _state(settings: ServerSettings, name: str, client: DecodingClient, metrics: Metrics) -> ServerState:
    return ServerState(
        service=client,
        admission=Admission(settings.batch + settings.queue),
        metrics=metrics,
        name=name,
        created=int(time.time()),
        keys=settings.keys,
        most_bytes=settings.most_bytes,
        vllm_metrics=settings.vllm_metrics,
        page=settings.page,
    )


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
