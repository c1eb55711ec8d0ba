"""python -m app.maintenance.run: a process of the maintenance role."""

from aftercommit.server.maintenance.run import main

if __name__ == "__main__":
    main()
