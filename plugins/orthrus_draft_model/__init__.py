"""The drafter `draft_model`: a smaller model of the same vocabulary says what comes next, token by token."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register(
        "draft_model",
        "orthrus_draft_model.factory:make",
        options="orthrus_draft_model.options:DraftModelOptions",
    )
