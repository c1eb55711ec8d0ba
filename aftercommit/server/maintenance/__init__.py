"""Periodic services: they declare the queues, send out due tasks, rescue tasks of lost workers, send again tasks whose
message vanished, and delete tasks and keys whose time is over. Any number of replicas may run."""
