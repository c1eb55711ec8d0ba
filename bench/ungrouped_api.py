"""python -m bench.ungrouped_api: the API with a statement and a commit for each request, to compare with."""

import runpy

from app.api import submissions
from app.config import load_settings

if __name__ == "__main__":
    for name, value in {"MOST_TASKS": 1, "STATEMENTS_AT_ONCE": load_settings().postgres_pool_size}.items():
        setattr(submissions, name, value)
    runpy.run_module("app.api.run", run_name="__main__")
