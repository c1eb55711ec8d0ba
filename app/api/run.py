"""python -m app.api.run: a process of the api role."""

from aftercommit.server.api.run import main

if __name__ == "__main__":
    main()
