"""The page's routes: its files and no others, with a policy that lets nothing in from elsewhere."""

from __future__ import annotations

import re

import pytest
from support.serving import Served, serving

from orthrus_serve.routes.page import POLICY, page_files

ELSEWHERE = re.compile(r"""(?:[a-z]+:)?//[\w.]+|\b(?:src|href|url|import)\b[^\n]*\bdata:""")
OWN = {"http://www.w3.org"}  # the name of a namespace, which nobody fetches


def references(name: str, content: str) -> set[str]:
    """Return the files that a file of the page names."""
    quoted = re.findall(r"""(?:src|href)="page/([^"]+)"|from "\./([^"]+)\"""", content)
    return {file for pair in quoted for file in pair if file}


def elsewhere(content: str) -> set[str]:
    """Return the addresses of other hosts in a file; comments of scripts begin as addresses without a scheme do."""
    return {found for found in ELSEWHERE.findall(re.sub(r"(?m)^\s*//.*$", "", content)) if found not in OWN}


def test_the_page_and_its_files_are_served(served: Served) -> None:
    page = served.client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.content == page_files()["index.html"]
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    for name in set(page_files()) - {"index.html"}:
        file = served.client.get(f"/page/{name}")
        assert (file.status_code, file.headers["content-type"]) == (200, types[name.rpartition(".")[2]])
        assert file.headers["content-security-policy"] == POLICY and file.headers["x-content-type-options"] == "nosniff"
        again = served.client.get(f"/page/{name}", headers={"if-none-match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert served.client.head(f"/page/{name}").content == b""


def test_every_file_is_named_by_another_and_no_other_host_is() -> None:
    texts = {name: content.decode() for name, content in page_files().items()}
    named = {"index.html"}.union(*(references(name, content) for name, content in texts.items()))
    assert named == set(texts)
    assert {name: elsewhere(content) for name, content in texts.items() if elsewhere(content)} == {}
    assert "unsafe" not in POLICY and "default-src 'none'" in POLICY


def test_what_would_be_fetched_from_elsewhere_is_noticed() -> None:
    assert elsewhere('<script src="https://cdn.example.org/x.js">') and elsewhere(
        '@import "//fonts.example.org/a.css";'
    )
    assert not elsewhere("  // a comment\n")


@pytest.mark.parametrize(
    "path", ["/page/", "/page/index", "/page/../command.py", "/page/..%2fcommand.py", "/page/__init__.py", "/page/x.js"]
)
def test_nothing_else_is(path: str, served: Served) -> None:
    assert served.client.get(path).status_code == 404


def test_the_page_needs_no_key_and_may_be_left_out() -> None:
    with serving(keys=(b"key",)) as served:
        assert served.client.get("/").status_code == served.client.get("/page/main.js").status_code == 200
        assert served.client.get("/v1/models").status_code == 401
    with serving(page=False) as served:
        assert served.client.get("/").status_code == served.client.get("/page/main.js").status_code == 404
        served.completion("abc")
