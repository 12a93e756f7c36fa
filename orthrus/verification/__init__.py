"""Holds decoding against the target itself: token by token, with a certificate for every run. See docs/lossless.md.

May import: bench, build, chance, config, context, decoder, errors, interfaces, metrics, noise, plugins, sampling,
testing, types.
"""

from orthrus.verification.answers import Verification, check_verifiable, verify
from orthrus.verification.divergence import Divergence

__all__ = ["Divergence", "Verification", "check_verifiable", "verify"]
