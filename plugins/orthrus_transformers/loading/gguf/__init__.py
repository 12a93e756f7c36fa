"""GGUF files read whole: config, weights and tokenizer, and a refusal for what is not understood.

It imports `gguf`, `tokenizers`, transformers' config and model classes, and of this plugin little but its errors and
`quiet`.

May import: loading.patterns, loading.quiet, model.
"""
