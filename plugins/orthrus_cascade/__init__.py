"""The drafter `cascade`: of several drafters the one that pays drafts, by what each costs and what was accepted."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_drafters(register: Register) -> None:
    register("cascade", "orthrus_cascade.drafter:make", options="orthrus_cascade.options:CascadeOptions")
