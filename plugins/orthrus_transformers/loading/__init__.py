"""Loading: from a source to a model in memory, with files, formats, weights and tokenizer.

May import: guards, model, options.
"""
