"""python -m app.workers.run: a process of the worker role."""

from aftercommit.worker.run import main

if __name__ == "__main__":
    main()
