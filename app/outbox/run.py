"""python -m app.outbox.run: a process of the relay role."""

from aftercommit.server.relay.run import main

if __name__ == "__main__":
    main()
