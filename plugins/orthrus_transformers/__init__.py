"""The target `transformers`: any Hugging Face causal language model, unmodified; and where models come from."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_targets(register: Register) -> None:
    register(
        "transformers",
        "orthrus_transformers.target:make",
        options="orthrus_transformers.options:TransformersOptions",
    )


@hookimpl
def register_sources(register: Register) -> None:
    register("default", "orthrus_transformers.loading.sources:default_source")
    register("path", "orthrus_transformers.loading.sources:path_source")
    register("package", "orthrus_transformers.loading.sources:package_source")
    register("hub", "orthrus_transformers.loading.sources:hub_source")
    register("shape", "orthrus_transformers.loading.sources:shape_source")


@hookimpl
def register_baselines(register: Register) -> None:
    register("generate", "orthrus_transformers.baselines:generate")
    register("generate-static", "orthrus_transformers.baselines:generate_static")
    register(
        "generate-prompt-lookup",
        "orthrus_transformers.baselines:generate_prompt_lookup",
        options="orthrus_transformers.options:GeneratePromptLookupOptions",
    )


@hookimpl
def register_commands(register: Register) -> None:
    register("fetch", "orthrus_transformers.fetch:fetch")
