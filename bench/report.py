"""``python -m bench.report FILE.json``: the figures into documents/benchmarks.md, and the plot beside it.

It runs in the environment that has matplotlib and needs nothing of ``app``.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from bench import document, plot
from bench.results import Results

DOCUMENT: Final = Path(__file__).resolve().parents[1] / "documents" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("results", type=Path, metavar="FILE.json")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    wanted = parser.parse_args()
    results = Results.read(wanted.results)
    picture = wanted.document.with_suffix(".svg")
    plot.draw(results, picture)
    page = wanted.document.read_text()
    wanted.document.write_text(document.replaced(page, document.render(results, picture=picture.name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
