"""A worker: ``fetcher`` (messages wait here) → ``claimer`` (claims for free slots) → ``slots`` → ``executor`` (runs one
attempt) → ``recorder`` (writes the outcomes). ``heartbeat`` keeps the lease meanwhile."""
