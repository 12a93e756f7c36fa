"""Errors that a client gets, as OpenAI's error objects."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

CLIENT_LEFT = 499  # a status that nobody reads


class ApiError(Exception):
    """An error of one request: the HTTP status, a sentence, and the field that it is about, if it is about one."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def kind(self) -> str:
        """OpenAI's word for errors of this status."""
        named = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        return named.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def to_dict(self) -> dict[str, Any]:
        """Return the error object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error for what a request asks for and cannot have."""
    return ApiError(400, message, param=param, code=code)


def unavailable(message: str) -> ApiError:
    """Return the error for requests that come, or are under way, when the decoding process ends."""
    return ApiError(503, message, code="decoding_ended")


def error_response(error: ApiError) -> JSONResponse:
    """Return the response that shows an error."""
    return JSONResponse(error.to_dict(), error.status, error.headers)


def unforeseen(error: Exception) -> ApiError:
    """Return the error that says that the server is at fault; what happened is not the client's to know."""
    return ApiError(500, f"the server failed: {type(error).__name__}")
