"""From a source to a model in memory: files, formats, weights, tokenizer.

May import: guards, options.
"""
