"""Reads the body of a request: not too long, JSON, and of its type."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request

from orthrus.errors import shortened
from orthrus_serve.errors import CLIENT_LEFT, ApiError, refused

B = TypeVar("B", bound=BaseModel)
BODY_SECONDS = 30.0  # in which a request must have come
TYPES = frozenset({"str", "int", "float", "bool"})


async def read(request: Request, schema: type[B], most_bytes: int) -> B:
    """Return the body; raise ApiError for one that is too long, is no JSON, or has fields that are wrong.

    A type other than JSON is refused, too: a page of another site can send others without the user's leave.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the request must have the header 'Content-Type: application/json'")
    body = await _bytes(request, most_bytes)
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


async def _bytes(request: Request, most: int) -> bytes:
    """Return the body's bytes; those of one that is too long are not kept."""
    chunks, length = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                length += len(chunk)
                if length > most:
                    raise ApiError(413, f"the request is longer than {most} bytes", code="request_too_large")
                chunks.append(chunk)
    except TimeoutError as error:
        raise ApiError(408, f"the request did not come within {BODY_SECONDS:g} s") from error
    except ClientDisconnect as error:
        raise ApiError(CLIENT_LEFT, "the client left before its request was whole") from error
    return b"".join(chunks)


def _refusal(error: ValidationError) -> ApiError:
    """Return the error for the first field that is wrong, without what was given."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    first, location = problems[0], _location(problems[0])
    if first["type"] == "json_invalid":
        return refused(f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "extra_forbidden":
        name = shortened(".".join(map(str, first["loc"])))
        return refused(f"'{name}' is no field that this server knows", name, "unknown_field")
    if not location:  # a rule over several fields, which begins with the name of one
        message = first["msg"].removeprefix("Value error, ")
        return refused(message, message.split("'")[1] if message.startswith("'") else None)
    return refused(f"'{'.'.join(location)}': {_wanted(problems, location)}", location[0])


def _location(problem: ErrorDetails) -> list[str]:
    """Return where a problem is, without the names of the types that a value may have."""
    parts = [str(part) for part in problem["loc"]]
    return [part for part in parts if (part.isidentifier() and part not in TYPES) or part.isdigit()]


def _wanted(problems: Sequence[ErrorDetails], location: list[str]) -> str:
    """Return what a field must be; of one that may have several types, what is wrong within the type that it has."""
    same = [problem for problem in problems if _location(problem)[:1] == location[:1]]
    within = [problem for problem in same if not problem["type"].endswith("_type")]
    said = [problem["msg"].removeprefix("Value error, ") for problem in within[:1] or same]
    return " or ".join(dict.fromkeys(message[:1].lower() + message[1:] for message in said))
