"""Helpers of drafters: passes of the target, and how many tokens are worth drafting.

<<<<<<< HEAD
May import: accepted_path, batch, chance, errors, files, interfaces, machine, optional, ranks, sampling, settings,
trees, unfinished_files, values.
=======
May import: batch, chance, choices, errors, files, interfaces, machine, optional, ranks, sampling, settings, trees,
unfinished_files, values.
>>>>>>> 140ec70516022e07f4b245d35bfe470e996ea65a
"""
