"""Pure parts that every role shares: states, queues, retries, outcomes, failures, settings."""
