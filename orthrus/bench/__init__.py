"""Measures decoders and baselines side by side; `orthrus bench` runs it, `orthrus report` shows what came out.

May import: batch, build, choices, config, decoder, errors, files, interfaces, machine, metrics, moments, one_pass,
optional, options, prompts, ranks, registry, sampling, score_ahead, settings, values.
"""
