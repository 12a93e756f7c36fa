"""Routes of the page: a chat that shows drafts. Its files come with the package, and are all that can be asked for.

The page needs no key, for it holds nothing; what it asks the server for does.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orthrus_serve.routes.access import Server

TYPES = MappingProxyType(
    {
        "css": "text/css; charset=utf-8",
        "html": "text/html; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }
)
# Nothing comes from another host, or goes to one; no text becomes markup or code, whatever a model writes.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",  # asked for again, and not sent again
}


async def check_page(server: Server) -> None:
    """Raise what is raised where there is no such path, for a server without a page."""
    if not server.page:
        raise HTTPException(404)


router = APIRouter(dependencies=[Depends(check_page)])


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Return the page."""
    return _file(request, "index.html")


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def page_file(request: Request, name: str) -> Response:
    """Return a file of the page."""
    return _file(request, name)


@cache
def page_files() -> dict[str, bytes]:
    """Return the files of the page by name."""
    folder = files("orthrus_serve").joinpath("page")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in TYPES}


def _file(request: Request, name: str) -> Response:
    content = page_files().get(name)
    if content is None:
        raise HTTPException(404)
    tag = f'"{sha256(content).hexdigest()[:20]}"'
    headers = {**HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "content-type": TYPES[name.rpartition(".")[2]]})
