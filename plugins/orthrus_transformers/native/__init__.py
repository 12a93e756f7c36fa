"""Native CPU passes: C++ kernels that are compiled at first use, and the descriptions of models that they run on.

May import: model.
"""
