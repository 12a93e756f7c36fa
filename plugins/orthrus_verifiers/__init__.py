"""Verifiers that keep exactly what the target itself would have said."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_verifiers(register: Register) -> None:
    register("consensus", "orthrus_verifiers.consensus:make", options="orthrus_verifiers.options:ConsensusOptions")
    register("rejection", "orthrus_verifiers.rejection:make")
    register("coupled", "orthrus_verifiers.coupled:make")
    register("default", "orthrus_verifiers.coupled:make")  # what a config gets that names no verifier
