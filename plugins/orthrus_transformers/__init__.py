"""The target `transformers`: any Hugging Face causal language model, unmodified; and where models come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orthrus import hookimpl
from orthrus.hookspecs import Register

if TYPE_CHECKING:
    from orthrus_transformers.generate.custom_generate import CustomGenerate


def custom_generate(config: str | Path | Mapping[str, Any], **overrides: Any) -> CustomGenerate:
    """Return a callable for `model.generate(..., custom_generate=...)`, which decodes with the parts of a config.

    config, overrides: as of `orthrus.load`. The model is the one that `generate` is called on; what the config says of
    its source, dtype and device, of stop, sampling and seed does not count, since the model and `generate` say it. Keep
    the callable for further calls: it keeps the decoder. Raises the errors of `orthrus.load` at the first call.
    """
    from orthrus_transformers.generate.custom_generate import CustomGenerate

    return CustomGenerate(config, overrides)


@hookimpl
def register_targets(register: Register) -> None:
    register(
        "transformers",
        "orthrus_transformers.factory:make",
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
