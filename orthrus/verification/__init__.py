"""Holds decoding against the target itself: token by token, with a certificate for every run. See docs/lossless.md.

May import: batch, bench, build, chance, config, decoder, errors, interfaces, metrics, noise, reference, registry,
sampling, values.
"""

from orthrus.verification.answers import Verification, check_verifiable, verify
from orthrus.verification.mismatch import Divergence

__all__ = ["Divergence", "Verification", "check_verifiable", "verify"]
