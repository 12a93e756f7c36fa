"""Drafters that run no model: plain decoding, looking the continuation up in the text, replaying a known answer."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register("none", "orthrus_drafters.none:make")
    register(
        "prompt_lookup",
        "orthrus_drafters.prompt_lookup:make",
        options="orthrus_drafters.options:PromptLookupOptions",
    )
    register("replay", "orthrus_drafters.replay:make", options="orthrus_drafters.options:ReplayOptions")
