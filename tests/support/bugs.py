"""All seeded bugs, by the heading that they have in docs/results/bugs-the-kit-finds.md."""

from __future__ import annotations

from support.bug import Bug
from support.bugs_of_attention import BUGS as ATTENTION
from support.bugs_of_caches import BUGS as CACHES
from support.bugs_of_coupling import BUGS as COUPLING
from support.bugs_of_drafters import BUGS as DRAFTERS
from support.bugs_of_fused_attention import BUGS as FUSED_ATTENTION
from support.bugs_of_large_buffers import BUGS as BUFFERS
from support.bugs_of_large_passes import BUGS as PASSES
from support.bugs_of_large_verdicts import BUGS as VERDICTS
from support.bugs_of_one_pass import BUGS as ONE_PASS
from support.bugs_of_recurrent_targets import BUGS as RECURRENT
from support.bugs_of_rows import BUGS as ROWS
from support.bugs_of_taps import BUGS as TAPS
from support.bugs_of_taps import BUGS_OF_THE_LOOP as LATE_TAPS
from support.bugs_of_targets import BUGS as TARGETS
from support.bugs_of_the_loop import BUGS as LOOP
from support.bugs_of_trees import ATTENTION as TREE_ATTENTION
from support.bugs_of_trees import CACHES as TREE_CACHES
from support.bugs_of_trees import DRAFTERS as TREE_DRAFTERS
from support.bugs_of_trees import LOOP as TREE_LOOP
from support.bugs_of_trees import TARGETS as TREE_TARGETS
from support.bugs_of_trees import VERIFIERS as TREE_VERIFIERS
from support.bugs_of_verifiers import BUGS as VERIFIERS

BUGS: dict[str, list[Bug]] = {
    "Drafters": DRAFTERS + ROWS + TAPS + TREE_DRAFTERS,
    "Verifiers": VERIFIERS + COUPLING + VERDICTS + TREE_VERIFIERS,
    "Caches": CACHES + [bug for bug in BUFFERS if bug.kind == "cache"] + TREE_CACHES,
    "Targets": TARGETS + PASSES + RECURRENT + TREE_TARGETS,
    "Attention backends": ATTENTION
    + [bug for bug in BUFFERS if bug.kind == "attention"]
    + TREE_ATTENTION
    + ONE_PASS
    + FUSED_ATTENTION,
    "The loop": LOOP + LATE_TAPS + TREE_LOOP,
}
EVERY_BUG = [bug for bugs in BUGS.values() for bug in bugs]
