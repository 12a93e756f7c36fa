"""Holds decoding against the target itself: token by token, with a certificate for every run. See docs/lossless.md."""

from orthrus.verification.answers import Verification, check_verifiable, verify
from orthrus.verification.divergence import Divergence

__all__ = ["Divergence", "Verification", "check_verifiable", "verify"]
