"""Predicts how fast drafters will be, from what cycles cost and what is accepted; `orthrus predict` shows it.

May import: abilities, batch, bench, build, chance, config, decoder, drafting, errors, files, interfaces, machine,
metrics, optional, options, prompts, registry, settings, trees, values.
"""
