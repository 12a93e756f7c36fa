"""Verifiers that keep exactly what the target itself would have said."""

from orthrus import hookimpl
from orthrus.hookspecs import Register


@hookimpl
def register_verifiers(register: Register) -> None:
    register("consensus", "orthrus_consensus.consensus:make", options="orthrus_consensus.options:ConsensusOptions")
    register("rejection", "orthrus_consensus.rejection:make")
    register("coupled", "orthrus_consensus.coupled:make")
    register("default", "orthrus_consensus.coupled:make")  # what a config gets that names no verifier
