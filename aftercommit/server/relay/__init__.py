"""The relay: committed outbox rows become messages in RabbitMQ."""
