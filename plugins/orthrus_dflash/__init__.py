"""The drafter `dflash`: published checkpoints that draft a block from the target's hidden states."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register("dflash", "orthrus_dflash.drafter:make", options="orthrus_dflash.options:DFlashOptions")
