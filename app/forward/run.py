"""python -m app.forward.run: a process of the forwarder."""

from aftercommit.forward.run import main

if __name__ == "__main__":
    main()
