"""Peers: other Python task queues, in environments of their own, on the same servers, with the same tasks.

``catalogue`` says what there is, ``measure`` runs one: ``throughput`` or ``single`` tasks. The modules that are named
after a peer, and ``api``, run in the peers' environment: they know nothing of ``aftercommit``. ``python -m
bench.peers.<name>`` enqueues what ``order`` tells; the peer's own command works it.
"""
