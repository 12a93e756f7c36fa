"""Routes of the tokenizer: tokens of texts, texts of tokens, and which tokens play which part."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from orthrus import InputError
from orthrus_serve.decoding.messages import Detokenize, Tokenize
from orthrus_serve.decoding.service import DecodingEndedError, QuestionFailedError
from orthrus_serve.errors import ApiError, refused, unavailable
from orthrus_serve.routes.access import Server, WithKey, model_of
from orthrus_serve.state import ServerState
from orthrus_serve.wire.reading import read
from orthrus_serve.wire.tokens import DetokenizeRequest, TokenizeRequest

router = APIRouter(dependencies=[WithKey])


@router.post("/tokenize")
async def tokenize(request: Request, server: Server) -> dict[str, Any]:
    """Return the tokens of a text or a dialogue."""
    asked = await read(request, TokenizeRequest, server.most_bytes)
    served = model_of(server, asked.model)
    special = asked.messages is not None or asked.add_special_tokens is not False
    question = Tokenize(next(server.ids), asked.text, chat=asked.messages is not None, special=special)
    tokens = await _ask(served, question)
    count = len(tokens) if isinstance(tokens, list) else 0
    return {"tokens": tokens, "count": count, "max_model_len": served.service.model.max_length}


@router.post("/detokenize")
async def detokenize(request: Request, server: Server) -> dict[str, Any]:
    """Return the text of tokens."""
    asked = await read(request, DetokenizeRequest, server.most_bytes)
    served = model_of(server, asked.model)
    return {"prompt": await _ask(served, Detokenize(next(server.ids), tuple(asked.tokens)))}


@router.get("/tokenizer_info")
async def tokenizer_info(server: Server, model: str | None = None) -> dict[str, Any]:
    """Return the texts of tokens that play a part, and the chat template; model: whose, if not the first one's."""
    served = model_of(server, model).service.model
    return {**served.tokens, "model_max_length": served.max_length, "vocab_size": served.vocabulary_size}


async def _ask(server: ServerState, question: Tokenize | Detokenize) -> object:
    try:
        return await server.service.ask(question)
    except InputError as error:
        raise refused(str(error)) from error
    except QuestionFailedError as error:
        raise ApiError(500, str(error)) from error
    except DecodingEndedError as error:
        raise unavailable(str(error)) from error
