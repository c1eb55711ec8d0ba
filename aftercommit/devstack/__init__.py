"""Private PostgreSQL and RabbitMQ servers in a folder, and the roles beside them: for `aftercommit dev` and for tests.

Nothing here is deployed. All but the demo uses the standard library only, so that it can say clearly what is missing
before anything else works.
"""
