"""The socket that a server listens at."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from orthrus import InputError, echo
from orthrus_serve.settings import LOCAL, ServerSettings

CONNECTIONS = 2048  # that wait to be taken


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


def let_in(settings: ServerSettings, names: Sequence[str], listening: socket.socket) -> None:
    """Let clients in, and say where; raise InputError if another program took the port meanwhile."""
    try:
        listening.listen(CONNECTIONS)
    except OSError as error:
        raise _taken(settings.host, settings.port, error) from error
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    models = " and ".join(f"'{name}'" for name in names)
    echo(f"serving {models} at http://{shown}:{port}", err=True)
    if settings.host not in LOCAL and not settings.keys:
        echo("whoever reaches this address may use it: --api-key-file asks for a key", err=True)
