"""Moves what callers committed in a database of their own to the service."""
