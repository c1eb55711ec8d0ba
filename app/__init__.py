"""The deployment's entry points, which Compose files and habits name; the service itself is the package aftercommit."""
