"""Measures decoders and baselines side by side; `orthrus bench` runs it, `orthrus report` shows what came out.

May import: build, config, decoder, devices, encoding, errors, fitting, interfaces, layers, metrics, options, plugins,
prompts, rows, types.
"""
