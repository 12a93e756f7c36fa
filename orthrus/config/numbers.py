"""Numbers in YAML that are not what they look like: octal, hexadecimal, binary and sixty-fold ones are refused.

YAML 1.1 reads 017 as 15, 1:30 as 90 and 08 as text, though all of them look like decimal numbers.
"""

from __future__ import annotations

import re

import yaml

_OTHER = re.compile(r"[-+]?(0[0-9_]+|0[box][0-9a-f_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)", re.IGNORECASE)


def other_number(text: str) -> str | None:
    """Return the sentence for the first number of a YAML text that is not decimal, or None; raise YAMLError."""
    for event in yaml.parse(text):
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and _OTHER.fullmatch(event.value):
            mark = event.start_mark
            where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
            return (
                f"{event.value}{where} is no decimal number, and YAML reads another one; write it in decimal, or as"
                f" text: '{event.value}'"
            )
    return None
