"""The service around the workers: ways in, relay, maintenance."""
