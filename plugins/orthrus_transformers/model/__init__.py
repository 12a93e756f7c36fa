"""Changes of a Hugging Face model for decoding, and facts of one.

May import: guards, kernels, recurrent, transformers_api.
"""
