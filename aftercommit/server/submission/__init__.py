"""What a submit is, for every way in: checks, ids, idempotency, the commit."""
