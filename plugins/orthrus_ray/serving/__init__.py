"""Serving on Ray Serve: ingresses that parse requests, and engine replicas that decode them.

`application` binds both. `ingress` runs the application of `orthrus_serve` over `service`, which asks `replica` through
handles; `router` chooses the replica by `prefix`. `deploy` is what the command does.

May import: cluster, failure, worker.
"""
