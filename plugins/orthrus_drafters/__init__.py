"""Drafters without weights: plain decoding, continuations looked up in texts, a known answer, transformers' own."""

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
    register("suffix", "orthrus_drafters.suffix:make", options="orthrus_drafters.options:SuffixOptions")
    register("replay", "orthrus_drafters.replay:make", options="orthrus_drafters.options:ReplayOptions")
    register(
        "transformers",
        "orthrus_drafters.candidate_generators:make",
        options="orthrus_drafters.options:CandidateGeneratorOptions",
    )
