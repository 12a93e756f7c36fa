"""Drafters that look the continuation up in the text itself; they run no model."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register(
        "prompt_lookup",
        "orthrus_lookup.prompt_lookup:make",
        options="orthrus_lookup.options:PromptLookupOptions",
    )
