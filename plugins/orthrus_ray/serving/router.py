"""The request router of engine replicas, which Ray Serve runs in every ingress.

Ray copies this module by value to where it runs, so it has nothing but the class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from ray.exceptions import RayError
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from orthrus_ray.serving.prefix import by_preference, ranked


class PrefixRouter(RequestRouter):
    """Route the requests of a session to the replica that it prefers, unless that one is much busier."""

    def initialize_state(self, slack: int = 0) -> None:
        """Take the deployment's arguments; slack: requests that a replica may have more than the least busy."""
        self._slack = slack

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas to try, one after the other; one that is full refuses.

        A request without a session goes to the least busy one, and where several are, to any of them.
        """
        session, chance = "", ""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # before all of them are tried again
            session, chance = pending_request.metadata.session_id, pending_request.metadata.internal_request_id
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        known = self.replica_queue_len_cache
        loads = {name: known.get(replica.replica_id) or 0 for name, replica in replicas.items()}
        if session:
            order = await self._order(session, replicas, loads)
        else:
            order = by_preference(chance, loads, 0)
        return [[replicas[name]] for name in order]

    async def _order(self, session: str, replicas: Mapping[str, RunningReplica], loads: Mapping[str, int]) -> list[str]:
        """Return the order of a session. A replica is asked how busy it is before the session leaves it.

        What is known of it is what it said when this ingress last sent it a request: those of other ingresses that
        have ended since are still counted.
        """
        order = by_preference(session, loads, self._slack)
        preferred = ranked(session, loads)[:1]
        if order[:1] == preferred:
            return order
        [name] = preferred
        return by_preference(session, {**loads, name: await self._load(replicas[name], loads[name])}, self._slack)

    async def _load(self, replica: RunningReplica, known: int) -> int:
        """Return how many requests a replica has; what is known, if it does not say so in time."""
        seconds = self.queue_len_response_deadline_s
        with suppress(RayError, TimeoutError):
            known = await asyncio.wait_for(replica.get_queue_len(deadline_s=seconds), seconds)
            self.on_new_queue_len_info(replica.replica_id, known)
        return known
