"""Everything that knows RabbitMQ: connection, topology, messages, publishing, consuming, looking."""
