"""Private PostgreSQL and RabbitMQ servers in a folder of the checkout, for `make up`, `make demo` and tests.

Nothing here is deployed. It only uses the standard library (the demo adds aiohttp and rich), so that it can
say clearly what is missing before anything else works.
"""
