"""The request router of engine replicas, which Ray Serve runs in every ingress.

Ray copies this module by value to where it runs, so it has nothing but the class.
"""

from __future__ import annotations

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from orthrus_ray.serving.prefix import by_preference


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
        order = by_preference(session or chance, loads, self._slack if session else 0)
        return [[replicas[name]] for name in order]
