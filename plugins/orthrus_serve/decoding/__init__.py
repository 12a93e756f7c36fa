"""The decoding process, its messages, and the client through which the web process talks to it.

`start` starts it. `process` is what runs there: `inbox` takes messages, `loop` decodes, `outbox` sends what is new.
Only these import torch. `service` is the interface that the routes see, and `client` implements it over a pipe.

May import: nothing else.
"""
