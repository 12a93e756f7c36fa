"""Reads the body of a request: not too long, JSON, and of its type."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from orthrus_serve.errors import ApiError, refused

B = TypeVar("B", bound=BaseModel)


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
    async for chunk in request.stream():
        length += len(chunk)
        if length > most:
            raise ApiError(413, f"the request is longer than {most} bytes", code="request_too_large")
        chunks.append(chunk)
    return b"".join(chunks)


def _refusal(error: ValidationError) -> ApiError:
    """Return the error for the first field that is wrong, without what was given."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    location = [str(part) for part in problem["loc"]]
    if problem["type"] == "json_invalid":
        return refused(f"the body is not JSON: {problem['msg'].removeprefix('Invalid JSON: ')}")
    if problem["type"] == "extra_forbidden":
        return refused(f"'{'.'.join(location)}' is no field that this server knows", location[0], "unknown_field")
    message = problem["msg"].removeprefix("Value error, ")
    quoted = message.split("'")[1] if message.startswith("'") else None  # of a rule over several fields
    where = f"'{'.'.join(location)}': " if location else ""
    return refused(f"{where}{message[:1].lower()}{message[1:]}", location[0] if location else quoted)
