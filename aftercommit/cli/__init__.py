"""The console script `aftercommit`: runs a role, migrates the database, or all of it for development."""
