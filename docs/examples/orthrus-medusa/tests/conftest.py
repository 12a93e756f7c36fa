"""Has pytest say how many checks ran, and which did not apply and why."""

import torch

pytest_plugins = ["orthrus.testing.pytest_summary"]
torch.set_num_threads(1)  # what is this small gains nothing from more
