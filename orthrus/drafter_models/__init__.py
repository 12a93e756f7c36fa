"""Building blocks of drafters with weights of their own: checkpoints, keys and values, rotary positions, vocabularies.

May import: errors, files.
"""
