"""What is deployed: the API, the relay, the workers and maintenance.

A task's way: ``api`` commits it, ``outbox`` refs RabbitMQ for it, ``workers`` claim, run and record it,
``maintenance`` sends out what fell due and prunes what is over. The roles meet in Postgres and RabbitMQ only.
"""
