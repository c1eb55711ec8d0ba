"""A worker: it consumes rings, claims the tasks, runs their handlers and records what came of it.

``intake`` (lanes of deliveries, fair turns) → ``worker`` (claims for free slots) → ``executor`` → ``recorder``.
"""
