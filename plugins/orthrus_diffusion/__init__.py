"""The dual view: a second attention on the frozen target drafts a whole block in one pass (arXiv 2605.12825)."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register(
        "diffusion",
        "orthrus_diffusion.factory:make",
        options="orthrus_diffusion.options:DiffusionOptions",
    )


@hookimpl
def register_sections(register: Register) -> None:
    for name, options in (
        ("training", "TrainingOptions"),
        ("prompts", "PromptsOptions"),
        ("answers", "AnswersOptions"),
        ("fit", "FitOptions"),
        ("eval", "EvalOptions"),
    ):
        register(name, f"orthrus_diffusion.training.settings:{options}")


@hookimpl
def register_commands(register: Register) -> None:
    register("train", "orthrus_diffusion.training.command:train")
    register("convert", "orthrus_diffusion.commands:convert")
