"""The documentation agrees with the code: settings, links, endpoints, error codes, log events."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aftercommit.core import errors
from aftercommit.core.settings import Settings
from aftercommit.db.models import metadata
from aftercommit.server.api.app import create_app
from tests.faults.scenarios import SCENARIOS

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "documents").rglob("*.md"))]
SETTINGS: Final = {name.upper() for name in Settings.model_fields}
OF_THE_DEPLOYMENT: Final = {"POSTGRES_PASSWORD", "RABBITMQ_URL"}
"""What an installation must choose: the example shows a value to change instead of the default."""


def read(name: str) -> str:
    return (ROOT / name).read_text()


def example_settings() -> dict[str, str]:
    """Every ``NAME=value`` of the example; a commented-out one is unset by default and reads as empty."""
    lines = re.findall(r"^(# )?([A-Z][A-Z_0-9]+)=(.*)$", read(".env.example"), re.MULTILINE)
    return {name: "" if commented else value for commented, name, value in lines}


def readme_settings() -> dict[str, str]:
    """Name and default of each row of the settings table."""
    rows = re.findall(r"^\| `([A-Z][A-Z_0-9]+)` \| (?:`([^`]*)`)? ?\|", read("README.md"), re.MULTILINE)
    return dict(rows)


def test_example_has_every_setting_and_nothing_else() -> None:
    composed = set(re.findall(r"\$\{([A-Z_]+)", read("docker-compose.yml")))
    names = set(example_settings())
    assert not SETTINGS - names
    assert not names - SETTINGS - composed


def test_example_is_a_valid_installation_with_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS & set(os.environ):
        monkeypatch.delenv(name)
    example = Settings(_env_file=ROOT / ".env.example")
    defaults = Settings(_env_file=None)
    for name in SETTINGS - OF_THE_DEPLOYMENT:
        assert getattr(example, name.lower()) == getattr(defaults, name.lower()), name


def test_readme_has_every_setting_with_its_default() -> None:
    told, example = readme_settings(), example_settings()
    assert set(told) == SETTINGS
    for name in SETTINGS - OF_THE_DEPLOYMENT:
        assert told[name] == example[name], name


def links() -> Iterator[tuple[Path, str]]:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not re.match(r"[a-z]+:", target):
                yield page, target


@pytest.mark.parametrize(("page", "target"), [pytest.param(*link, id=f"{link[0].name}-{link[1]}") for link in links()])
def test_link_leads_somewhere(page: Path, target: str) -> None:
    file, _, anchor = target.partition("#")
    found = page.parent / file if file else page
    assert found.exists()
    if anchor:
        assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)}


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_api_page_has_every_endpoint_and_error_code() -> None:
    page = read("documents/api.md")
    for path, methods in create_app(Settings(_env_file=None)).openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in page
    kinds: list[type[errors.AftercommitError]] = [errors.AftercommitError, *errors.AftercommitError.__subclasses__()]
    for kind in kinds:
        if kind not in (errors.BrokerUnavailable, errors.MalformedMessage):  # neither leaves the API as an error
            assert f"`{kind.code}`" in page


def test_operations_page_has_every_log_event() -> None:
    page = read("documents/operations.md")
    events = {
        event
        for module in (ROOT / "aftercommit").rglob("*.py")
        for event in re.findall(r"\blog\.\w+\(\s*\"(\w+)\"", module.read_text())
    }
    assert "task_failed" in events
    assert not {event for event in events if f"`{event}`" not in page}


def test_architecture_page_has_every_table_and_index() -> None:
    page = read("documents/architecture.md")
    for table in metadata.tables.values():
        assert f"`{table.name}`" in page
        for index in table.indexes:
            assert f"`{index.name}" in page


def test_guarantees_page_names_every_fault_scenario_and_only_tests_that_exist() -> None:
    page = read("documents/guarantees.md")
    assert not {name for name in SCENARIOS if f"`{name}`" not in page}
    sources = "".join(module.read_text() for module in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert not {name for name in named if f"def {name}(" not in sources}
