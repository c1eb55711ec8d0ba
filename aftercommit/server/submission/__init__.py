"""What a submit is, for every way in: checks, ids, defaults, idempotency, the commit. It knows nothing of requests."""
