"""After any history of accepting and refusing, the drafter drafts what a fresh one would."""

from orthrus.testing.profiles import fewer
from orthrus.testing.rollback_machine import rollback_machine
from orthrus_repeat.drafter import Repeat

TestMemory = rollback_machine(lambda target: Repeat(length=3)).TestCase
TestMemory.settings = fewer(4, stateful_step_count=12)  # many short histories
