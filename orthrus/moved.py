"""Modules that have moved: whoever imports one by its old name is told the new one."""

from __future__ import annotations

MOVED = {
    "orthrus.types": "orthrus.values (Stop and Sampling: orthrus.settings); take its names from orthrus",
    "orthrus.context": "orthrus.batch.context; take its names from orthrus",
    "orthrus.plugins": "orthrus.registry.plugins; take Plugins from orthrus",
    "orthrus.text": "orthrus.batch.detokenizer (TextStream: Detokenizer)",
    "orthrus.processing": "orthrus.sampling.logits_processor",
    "orthrus.noise": "orthrus.chance",
    "orthrus.catalog": "orthrus.registry.catalog",
    "orthrus.fingerprints": "orthrus.files",
    "orthrus.layers": "orthrus.config.compose",
    "orthrus.auto_block": "orthrus.drafting.auto_block; take AutoBlock from orthrus",
    "orthrus.draft_pass": "orthrus.drafting.draft_pass; take run_draft_pass from orthrus",
    "orthrus.testing.history": "orthrus.testing.doubles.drafters",
    "orthrus.testing.summary": "orthrus.testing.pytest_summary",
    "orthrus.testing.table": "orthrus.reference.table; take TableTarget from orthrus.reference",
    "orthrus_consensus": "orthrus_verifiers",
    "orthrus_lookup": "orthrus_drafters",
    "orthrus_plain": "orthrus_drafters",
    "orthrus_replay": "orthrus_drafters",
}


class MovedModules:
    """Find no module, as the last of the finders, but say where one is that was there once."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ModuleNotFoundError for a module that has moved."""
        if name in MOVED:
            raise ModuleNotFoundError(f"'{name}' has moved: it is {MOVED[name]}", name=name)
