"""What drafters may use: passes of the target, and how many tokens are worth drafting.

May import: batch, chance, errors, interfaces, machine, sampling, user_cache, values.
"""
