"""The commands `orthrus ray serve` and `orthrus ray decode`; what they need is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orthrus_ray.dataset.settings import DatasetSummary
from orthrus_ray.extra import DATASETS, SERVING, need

MEBIBYTE = 2**20
Config = Annotated[Path, typer.Option("--config", help="A run file: which parts, with which options.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as verifier.name=coupled stop.max_new_tokens=64."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster; without, that of RAY_ADDRESS or of this machine, else a new one of this machine alone.",
    ),
]
Cpus = Annotated[float, typer.Option("--cpus", min=0, help="Cores that each reserves, and has threads for.")]
Gpus = Annotated[
    float | None,
    typer.Option("--gpus", min=0, help="GPUs that each reserves; without, 1 where the cluster has any, else 0."),
]

ray = typer.Typer(help="Serve, and decode datasets, on many machines with Ray.", no_args_is_help=True)


@ray.command()
def serve(
    config: Config,
    overrides: Overrides = None,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=10_000, help="Replicas that decode; the least, with --max-replicas.")
    ] = 1,
    max_replicas: Annotated[
        int | None,
        typer.Option("--max-replicas", min=1, max=10_000, help="Most replicas; their number follows the requests."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address that each machine's proxy listens to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port that it listens to.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="A file of keys, one a line; clients must send one of them.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=4096, help="Answers a replica decodes at a time.")] = 64,
    queue: Annotated[
        int, typer.Option("--queue", min=0, max=1_000_000, help="Answers a replica lets wait; more get status 429.")
    ] = 256,
    slack: Annotated[
        int | None,
        typer.Option(
            "--slack",
            min=0,
            help="Requests by which a replica may be busier than the least busy before a conversation leaves it; "
            "without, a quarter of --batch.",
        ),
    ] = None,
    cpus: Cpus = 1.0,
    gpus: Gpus = None,
    ingresses: Annotated[
        int, typer.Option("--ingresses", min=1, max=1000, help="Processes that parse requests, and write answers.")
    ] = 1,
    target_requests: Annotated[
        float | None,
        typer.Option(
            "--target-requests",
            min=0.01,
            help="Requests a replica that --max-replicas keeps to; without, as many as --batch.",
        ),
    ] = None,
    upscale_seconds: Annotated[
        float, typer.Option("--upscale-seconds", min=0, help="How long it is too few before there are more.")
    ] = 30.0,
    downscale_seconds: Annotated[
        float, typer.Option("--downscale-seconds", min=0, help="How long it is too many before there are fewer.")
    ] = 600.0,
    health_seconds: Annotated[
        float, typer.Option("--health-seconds", min=0.1, help="Time between two checks of a replica.")
    ] = 10.0,
    grace_seconds: Annotated[
        float, typer.Option("--grace-seconds", min=0, help="Time for requests under way when a replica is told to end.")
    ] = 60.0,
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", help="The model's name for clients; without, that of the config's file."),
    ] = None,
    most_megabytes: Annotated[
        int, typer.Option("--max-request-mib", min=1, max=1024, help="Largest body of a request, in MiB.")
    ] = 4,
    no_page: Annotated[bool, typer.Option("--no-page", help="Serve no page to chat at the address itself.")] = False,
    vllm_metrics: Annotated[
        bool, typer.Option("--vllm-metrics", help="Show the metrics under vLLM's names, too.")
    ] = False,
    address: Address = None,
    name: Annotated[str, typer.Option("--name", help="The application's name in Ray Serve.")] = "orthrus",
    detach: Annotated[
        bool, typer.Option("--detach", help="End once all replicas run, and leave them to the cluster.")
    ] = False,
) -> None:
    """Serve a decoder by OpenAI's interface from replicas on Ray; Ctrl-C or SIGTERM finishes what runs."""
    need("serve", SERVING)
    import orthrus
    from orthrus_ray.serving.settings import DeploymentSettings
    from orthrus_serve.settings import read_keys

    settings = DeploymentSettings(
        config=orthrus.read_config(config, dotted=tuple(overrides or ())),
        model=model_name or config.stem,
        replicas=replicas,
        most_replicas=max_replicas,
        ingresses=ingresses,
        batch=batch,
        queue=queue,
        slack=slack,
        cpus=cpus,
        target_requests=target_requests,
        upscale_seconds=upscale_seconds,
        downscale_seconds=downscale_seconds,
        health_seconds=health_seconds,
        grace_seconds=grace_seconds,
        keys=read_keys(api_key_file),
        most_bytes=most_megabytes * MEBIBYTE,
        vllm_metrics=vllm_metrics,
        page=not no_page,
    )
    from orthrus_ray.serving.deploy import Deployment, deploy

    deploy(Deployment(settings, host, port, address, name, detach, gpus))


@ray.command()
def decode(
    config: Config,
    source: Annotated[Path, typer.Option("--input", help="A file of JSON lines or Parquet, or a folder of them.")],
    output: Annotated[
        Path, typer.Option("--output", help="A folder of Parquet files; an earlier one is gone on with.")
    ],
    overrides: Overrides = None,
    column: Annotated[
        str, typer.Option("--column", help="The column of prompts: texts, dialogues or token ids.")
    ] = "prompt",
    id_column: Annotated[
        str | None,
        typer.Option("--id-column", help="Whose values key the noise; without, 'id', if it is there, or the row."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Texts do not go through the model's chat template.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=10_000, help="Actors that decode.")] = 1,
    batch: Annotated[int, typer.Option("--batch", min=1, max=4096, help="Rows that each decodes at a time.")] = 32,
    part_rows: Annotated[
        int | None,
        typer.Option(
            "--part-rows",
            min=1,
            help="Rows of a file of the output, which is done or not; without, as it was before, or 256.",
        ),
    ] = None,
    cpus: Cpus = 1.0,
    gpus: Gpus = None,
    address: Address = None,
) -> None:
    """Decode a dataset; what was done before is not done again."""
    need("decode", DATASETS)
    import orthrus
    from orthrus_ray.dataset.settings import DatasetSettings

    values = orthrus.read_config(config, dotted=tuple(overrides or ()))
    settings = DatasetSettings(
        values,
        source,
        output,
        column=column,
        id_column=id_column,
        chat=False if raw else None,
        batch=batch,
        part_rows=part_rows,
        workers=workers,
        cpus=cpus,
        gpus=gpus,
    )
    from orthrus_ray.dataset.decode import decode_dataset

    summary = decode_dataset(settings, address=address, notify=lambda text: orthrus.echo(text, err=True))
    orthrus.echo(described(summary), err=True)


def described(summary: DatasetSummary) -> str:
    """Return what became of a dataset, as a sentence."""
    new = summary.rows - summary.done_before
    wrong = f", {summary.errors} of them with an error that column 'answer_error' has" if summary.errors else ""
    return f"{summary.rows} rows are done, {new} of them now{wrong}; {summary.new_tokens} new tokens"
