"""python -m aftercommit: the console script `aftercommit`, where none is installed."""

import sys

from aftercommit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
