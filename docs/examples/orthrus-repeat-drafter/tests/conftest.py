"""The kit's summary line, and the profiles of Hypothesis."""

import torch

from orthrus.testing.profiles import register_profiles

pytest_plugins = ["orthrus.testing.pytest_summary"]
torch.set_num_threads(1)  # tables gain nothing from more
register_profiles()
