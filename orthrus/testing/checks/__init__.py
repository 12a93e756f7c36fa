"""The checks of the conformance kit, by kind of part.

May import: batch, build, chance, decode, errors, interfaces, reference, registry, sampling, testing.check,
testing.doubles, testing.scenes, values.
"""
