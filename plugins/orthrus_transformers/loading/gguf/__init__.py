"""GGUF files read whole: config, weights and tokenizer, and a refusal for what is not understood.

It imports `gguf`, `tokenizers`, transformers' config and model classes, and nothing of this plugin but its errors and
`quiet`.

May import: loading.patterns, loading.quiet.
"""
