"""What the target changes in a Hugging Face model, and what it must know of one.

May import: guards, kernels, transformers_api.
"""
