"""Stands before the real one where roles are measured: only the development environment has it, and structlog, finding
it, would make each role 4 MB larger than it is where it is deployed."""

raise ImportError("not among requirements.txt")
