"""HTTP in: validates, commits, answers. It never publishes, so no broker is needed to take a task."""
