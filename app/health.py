"""python -m app.health: whether the role in this container lives, for HEALTHCHECK and Kubernetes' probes."""

import sys

from aftercommit.runtime.liveness import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
