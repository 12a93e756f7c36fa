"""All seeded bugs, by the heading that they have in docs/results/bugs-the-kit-finds.md."""

from __future__ import annotations

from support.bug import Bug
from support.bugs_of_attention import BUGS as ATTENTION
from support.bugs_of_caches import BUGS as CACHES
from support.bugs_of_coupling import BUGS as COUPLING
from support.bugs_of_drafters import BUGS as DRAFTERS
from support.bugs_of_targets import BUGS as TARGETS
from support.bugs_of_the_loop import BUGS as LOOP
from support.bugs_of_verifiers import BUGS as VERIFIERS

BUGS: dict[str, list[Bug]] = {
    "Drafters": DRAFTERS,
    "Verifiers": VERIFIERS + COUPLING,
    "Caches": CACHES,
    "Targets": TARGETS,
    "Attention backends": ATTENTION,
    "The loop": LOOP,
}
EVERY_BUG = [bug for bugs in BUGS.values() for bug in bugs]
