"""A worker: it consumes refs, claims the tasks, runs their handlers and records what came of it.

``fetcher`` (lanes of deliveries, fair turns) → ``worker`` (claims for free slots) → ``executor`` → ``recorder``.
"""
