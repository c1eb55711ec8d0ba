"""Type checkers find the mistakes in submits, and nothing else."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from mypy import api

ROOT: Final = Path(__file__).parents[2]
SUBMITS: Final = Path(__file__).with_name("typed_submits.py")
WRONG: Final = {
    number for number, line in enumerate(SUBMITS.read_text().splitlines(), start=1) if line.endswith("# wrong")
}

pytestmark = pytest.mark.timeout(300)


def test_mypy_finds_each_wrong_submit_and_nothing_else() -> None:
    assert len(WRONG) > 20
    told, failure, _ = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary", str(SUBMITS)])
    found = {int(number) for number in re.findall(r"typed_submits\.py:(\d+): error", told)}
    assert found == WRONG, told + failure


@pytest.mark.skipif(find_spec("basedpyright") is None, reason="basedpyright is not installed")
def test_pyright_finds_each_wrong_submit_and_nothing_else(tmp_path: Path) -> None:
    settings = {
        "include": [str(SUBMITS)],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "pythonPlatform": "Linux",
    }
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(project)]
    ran = subprocess.run(
        [*command, "--pythonpath", sys.executable], capture_output=True, text=True, timeout=240, check=False
    )
    told = json.loads(ran.stdout)["generalDiagnostics"]
    found = {flaw["range"]["start"]["line"] + 1 for flaw in told if flaw["severity"] == "error"}
    assert found == WRONG, [(flaw["range"]["start"]["line"] + 1, flaw["message"]) for flaw in told]
