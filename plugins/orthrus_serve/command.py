"""The command `orthrus serve`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

PACKAGES = ("fastapi", "uvicorn", "prometheus_client")
MEBIBYTE = 2**20


def serve(
    config: Annotated[Path, typer.Option("--config", help="A run file: which parts, with which options.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Overrides, such as verifier.name=coupled stop.max_new_tokens=64."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen to; others than this machine need another.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen to; 0: any free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="A file of keys, one a line; clients must send one of them.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=4096, help="Answers decoded at a time.")] = 64,
    queue: Annotated[
        int, typer.Option("--queue", min=0, max=1_000_000, help="Answers that may wait; more are refused with 429.")
    ] = 256,
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", help="The model's name for clients; without, that of the config's file."),
    ] = None,
    most_megabytes: Annotated[
        int, typer.Option("--max-request-mib", min=1, max=1024, help="Largest body of a request, in MiB.")
    ] = 4,
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", help="A further run file, decoded by a process of its own; repeat it."),
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Serve no page to chat at the address itself.")] = False,
    vllm_metrics: Annotated[
        bool, typer.Option("--vllm-metrics", help="Show the metrics under vLLM's names, too.")
    ] = False,
) -> None:
    """Serve a decoder over HTTP, by OpenAI's interface; Ctrl-C or SIGTERM finishes what runs."""
    from orthrus import InputError
    from orthrus.ranks.launch import launched
    from orthrus_serve.settings import ServerSettings, read_keys

    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InputError(f"orthrus serve needs {', '.join(missing)}: pip install 'orthrus-decoding[serve]'")
    if (launch := launched()) is not None and not launch.leads:
        from orthrus_serve.decoding.follower import follow
        from orthrus_serve.decoding.start import DecodingSettings

        follow(DecodingSettings(config, tuple(overrides or ()), batch))
        return
    from orthrus_serve.server import run_server

    keys, name = read_keys(api_key_file), model_name or config.stem
    largest = most_megabytes * MEBIBYTE
    settings = ServerSettings(
        config,
        tuple(overrides or ()),
        host,
        port,
        keys,
        batch,
        queue,
        name,
        largest,
        vllm_metrics,
        tuple(compare or ()),
        not no_page,
    )
    run_server(settings)
