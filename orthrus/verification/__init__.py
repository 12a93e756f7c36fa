"""Certificates: decoding held against the target itself, token by token, one certificate a run.

See docs/explanation/lossless.md.

May import: accepted_path, batch, bench, build, chance, config, decoder, errors, files, interfaces, machine, metrics,
optional, ranks, reference, registry, sampling, settings, trees, values.
"""
