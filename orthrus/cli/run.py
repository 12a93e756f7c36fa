"""The command `orthrus run`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orthrus.bench.arguments import LARGEST
from orthrus.cli.arguments import AsJson, Batch, ConfigFile, Limit, Overrides, Raw
from orthrus.cli.command_plugins import command_plugins
from orthrus.cli.exit_codes import INTERRUPTED
from orthrus.cli.loading import load_decoder
from orthrus.cli.render import end_stream, plain, print_piece, summary, totals
from orthrus.cli.together import read_by_lead
from orthrus.errors import InputError, shown
from orthrus.progress import bar
from orthrus.prompts import PromptRecord, check_text, read_prompts
from orthrus.terminal import console, echo, to_json

if TYPE_CHECKING:
    from orthrus.decoder import Decoder
    from orthrus.values import Result


def run(
    program: typer.Context,
    config: ConfigFile,
    overrides: Overrides = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="One prompt; its answer is streamed.")] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help='JSONL: {"id": ..., "prompt": ...} a line.')] = None,
    batch: Batch = 1,
    limit: Limit = None,
    as_json: AsJson = False,
    raw: Raw = False,
) -> None:
    """Answer prompts. Accepted drafts are green, the target's own tokens plain.

    The text is the same without drafts, token for token in float32; `orthrus verify` certifies it in 16 bits.
    """
    if (prompt is None) == (prompts is None):
        raise InputError("give either --prompt TEXT or --prompts FILE.jsonl")
    if not 1 <= batch <= LARGEST:
        bound = f"at most {LARGEST}" if batch > LARGEST else "at least 1"
        raise InputError(f"--batch must be {bound}, not {shown(batch)}")
    if prompt is not None:
        records = [PromptRecord("0", check_text(prompt, "the prompt"))]
    else:
        records = read_by_lead(partial(read_prompts, prompts or Path(), limit))
    decoder = load_decoder(config, overrides, command_plugins(program))
    chat = False if raw else None
    if prompt is not None and not as_json:
        _stream(decoder, prompt, chat)
    else:
        _answer(decoder, records, batch, chat, as_json)


def _stream(decoder: Decoder, prompt: str, chat: bool | None) -> None:
    terminal = console()
    stream = decoder.stream(prompt, chat=chat)
    interrupted = False
    try:
        for piece in stream:
            print_piece(terminal, piece)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        end_stream(terminal)  # whatever happened, what was printed stays, on a line of its own
    line = summary(stream.result, ended_by="Ctrl-C" if interrupted else "")
    console(err=True).print(line, style="dim", markup=False, soft_wrap=True)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _answer(decoder: Decoder, records: list[PromptRecord], batch: int, chat: bool | None, as_json: bool) -> None:
    with bar("decoding", len(records)) as advance:

        def show(result: Result) -> None:
            advance(result)
            echo(to_json(result.to_dict()) if as_json else plain(result))

        ids, texts = [record.id for record in records], [record.prompt for record in records]
        results = decoder.generate(texts, ids=ids, batch=batch, chat=chat, on_result=show)
    if not as_json:
        console(err=True).print(totals(results), style="dim", markup=False, soft_wrap=True)
