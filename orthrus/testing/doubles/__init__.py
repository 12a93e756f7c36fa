"""Test doubles: drafters and verifiers that follow a script, and spies that record calls.

May import: abilities, batch, chance, decode, interfaces, optional, reference, testing.check, testing.scenes, trees,
values.
"""
