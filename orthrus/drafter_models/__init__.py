"""Building blocks of drafters with weights of their own: checkpoints, keys and values, rotary positions, vocabularies.

May import: batch, build, errors, files, interfaces, kernels, optional, registry, values.
"""
