"""Objects as JSON, by one encoder that is made once."""

from __future__ import annotations

import json

ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_bytes(value: object) -> bytes:
    """Return an object as JSON in UTF-8; raise ValueError for a number that JSON does not have."""
    return ENCODER.encode(value).encode()
