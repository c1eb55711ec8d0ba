"""Peers: other Python task queues, each in an environment of its own, on the same servers, with the same tasks.

``catalogue`` says what there is, ``measure`` runs one. The other modules run in the peers' environment: they know
nothing of ``app``. ``python -m bench.peers.<name>`` enqueues what ``order`` tells; the peer's own command works it.
"""
