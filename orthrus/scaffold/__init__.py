"""New plugin packages: written whole from templates, or not at all.

May import: errors, files, registry, unfinished_files.
"""
