import os
import subprocess
import sys

import pytest

# The value is in no line of the source: a traceback shows lines, and from Python 3.13 on those of `-c` too.
FAILING = """
import os
import structlog
from aftercommit.telemetry.logs import configure_logs

def handle(payload):
    raise RuntimeError("no luck")

configure_logs(form={form!r}, level="info")
try:
    handle({{"card": os.environ["CARD"]}})
except RuntimeError:
    structlog.get_logger().exception("request_failed")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_logged_exception_does_not_tell_the_values_of_variables(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING.format(form=form)],
        env={**os.environ, "CARD": "4111-secret"},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "no luck" in done.stderr
    assert "handle" in done.stderr
    assert "secret" not in done.stderr
