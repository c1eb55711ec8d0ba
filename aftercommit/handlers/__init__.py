"""Task types that ship with the service. Each worker has them besides those of WORKER_MODULES."""
