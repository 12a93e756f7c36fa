"""The two passes that train a view.

May import: current_device, model.
"""
