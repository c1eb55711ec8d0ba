"""The documents agree with the code: settings, links, endpoints, error codes, log events, commands, words."""

import inspect
import os
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from aftercommit import Client, client
from aftercommit.cli.main import COMMANDS, make_parser
from aftercommit.core import errors
from aftercommit.core.settings import Settings
from aftercommit.db.models import metadata
from aftercommit.server.api.app import create_app
from aftercommit.task_request import OPTIONS
from tests.faults.scenarios import SCENARIOS

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "documents").rglob("*.md"))]
SETTINGS: Final = {name.upper() for name in Settings.model_fields}
OF_THE_DEPLOYMENT: Final = {"POSTGRES_PASSWORD", "RABBITMQ_URL"}
"""What an installation must choose: the example shows a value to change instead of the default."""

LONGEST_README: Final = 150
COINED: Final = r"\b(rings?|rung|doorbells?|floors?|lookouts?|lanes?|rungs?|house)\b"
"""Words that only this project used. A page says task or message, send again, cursor, sweep, buffer."""


def read(name: str) -> str:
    return (ROOT / name).read_text()


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def commands() -> Iterator[tuple[str, str]]:
    """Page and command line of every shell block, continuation lines joined, prompts and comments removed."""
    for page in PAGES:
        for block in code_blocks(page, "sh", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            prompted = any(line.startswith("$ ") for line in lines)
            for line in lines:
                if line.strip() and (line.startswith("$ ") or not prompted):
                    yield name_of(page), re.sub(r"\s+#.*$", "", line.removeprefix("$ ")).strip()


def example_settings() -> dict[str, str]:
    """Every ``NAME=value`` of the example; a commented-out one is unset by default and reads as empty."""
    lines = re.findall(r"^(# )?([A-Z][A-Z_0-9]+)=(.*)$", read(".env.example"), re.MULTILINE)
    return {name: "" if commented else value for commented, name, value in lines}


def settings_page() -> dict[str, str]:
    """Name and default of each row of the tables of settings."""
    page = read("documents/reference/settings.md")
    return dict(re.findall(r"^\| `([A-Z][A-Z_0-9]+)` \| (?:`([^`]*)`)? ?\|", page, re.MULTILINE))


def composed() -> set[str]:
    return set(re.findall(r"\$\{([A-Z_]+)", read("docker-compose.yml")))


def test_example_has_every_setting_and_nothing_else() -> None:
    names = set(example_settings())
    assert not SETTINGS - names
    assert not names - SETTINGS - composed()


def test_example_is_a_valid_installation_with_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS & set(os.environ):
        monkeypatch.delenv(name)
    example = Settings(_env_file=ROOT / ".env.example")
    defaults = Settings(_env_file=None)
    for name in SETTINGS - OF_THE_DEPLOYMENT:
        assert getattr(example, name.lower()) == getattr(defaults, name.lower()), name


def test_settings_page_has_every_setting_with_its_default() -> None:
    told, example = settings_page(), example_settings()
    assert set(told) == SETTINGS
    for name in SETTINGS - OF_THE_DEPLOYMENT:
        assert told[name] == example[name], name


# A decision record keeps the names of its day.
@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "decisions"], ids=name_of)
def test_page_names_only_settings_that_exist(page: Path) -> None:
    spans = re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:=[^`]*)?`", page.read_text())
    # What Compose, Python, pytest and asyncpg read.
    others = composed() | {"PYTHONPATH", "PLANS_TASKS", "PGSSLMODE", "PGSSLROOTCERT"}
    others |= {"AFTERCOMMIT_URL", "AFTERCOMMIT_API_KEY"}  # the client reads them
    others |= {"TEST_POSTGRES_IMAGE", "TEST_RABBITMQ_IMAGE", "AFTERCOMMIT_IMAGE", "FRESH_IMAGE", "LONG_TESTS"}
    assert not set(spans) - SETTINGS - others


def test_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= LONGEST_README


def test_readme_and_internals_name_every_part_of_the_package() -> None:
    parts = {
        str(init.parent.relative_to(ROOT / "aftercommit")) for init in (ROOT / "aftercommit").glob("*/__init__.py")
    }
    parts |= {f"server/{init.parent.name}" for init in (ROOT / "aftercommit/server").glob("*/__init__.py")}
    for part in parts - {"server", "_migrations"}:
        assert f" {part}/" in read("README.md"), part
        assert f"`aftercommit/{part}/`" in read("documents/contributing/internals.md"), part


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_speaks_the_words_of_the_field(page: Path) -> None:
    prose = re.sub(r"`[^`]*`", "", page.read_text())
    assert not re.findall(COINED, prose, re.IGNORECASE)


def test_every_page_stands_in_the_list_of_pages() -> None:
    listed = set(re.findall(r"\]\(([^)#]+\.md)", read("documents/README.md")))
    records = set(re.findall(r"\]\(([^)#]+\.md)", read("documents/decisions/README.md")))
    listed |= {f"decisions/{record}" for record in records}
    pages = {str(page.relative_to(ROOT / "documents")) for page in PAGES if page.parent != ROOT}
    assert pages - {"README.md"} == listed


def links() -> Iterator[tuple[Path, str]]:
    examples = [each for pattern in ("README.md", "*/README.md") for each in (ROOT / "examples").glob(pattern)]
    for page in [*PAGES, ROOT / "CHANGELOG.md", *examples]:
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


def test_shell_blocks_name_only_make_targets_modules_and_services_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    services = set(re.findall(r"^  ([a-z_]+):$", read("docker-compose.yml"), re.MULTILINE))
    for page, command in commands():
        for target in re.findall(r"(?:^|&& )make ([a-z-]+)", command):
            assert target in targets, (page, command)
        for module in re.findall(r"python3? -m ([a-z_.]+)", command):
            assert module in sys.stdlib_module_names or find_spec(module) is not None, (page, command)
        for file in re.findall(r" -f (\S+\.yml)", command):
            assert (ROOT / file).exists(), (page, command)
        for arguments in re.findall(r"^(?:docker compose|dc) (?:restart|up -d --no-deps) (.+)$", command):
            named = set(re.findall(r"(?<![-=\w])[a-z_]+\b(?!=)", re.sub(r"--scale \S+", "", arguments)))
            assert named <= services, (page, command)


def test_shell_blocks_use_only_commands_and_flags_that_aftercommit_has() -> None:
    used = [
        (page, arguments) for page, command in commands() for arguments in re.findall(r"^aftercommit (.+)$", command)
    ]
    assert {arguments.split()[0] for _, arguments in used} >= set(COMMANDS) - {"api", "relay", "maintenance", "migrate"}
    for page, arguments in used:
        try:
            make_parser().parse_args(arguments.split())
        except SystemExit:
            pytest.fail(f"{page}: aftercommit {arguments}")


@pytest.mark.parametrize(
    ("page", "code"),
    [
        pytest.param(page, code, id=f"{page.name}-{n}")
        for page in PAGES
        for n, code in enumerate(code_blocks(page, "python"))
    ],
)
def test_python_of_a_page_is_python(page: Path, code: str) -> None:
    compile(code, page.name, "exec")


@pytest.mark.parametrize("name", ["client", "python"])
def test_reference_page_imports_only_what_there_is(name: str) -> None:
    (code,) = code_blocks(ROOT / f"documents/reference/{name}.md", "python")
    exec(code, {})


def test_http_page_has_every_endpoint_and_error_code() -> None:
    page = read("documents/reference/http-api.md")
    for path, methods in create_app(Settings(_env_file=None)).openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in page
    kinds: list[type[errors.AftercommitError]] = [errors.AftercommitError, *errors.AftercommitError.__subclasses__()]
    for kind in kinds:
        if kind not in (errors.BrokerUnavailable, errors.MalformedMessage):  # neither leaves the API as an error
            assert f"`{kind.code}`" in page


def test_client_page_has_every_method_with_its_parameters() -> None:
    page = read("documents/reference/client.md")
    for name, method in vars(Client).items():
        if not name.startswith("_"):
            parameters = list(inspect.signature(method).parameters.values())[1:]
            plain = inspect.Signature([each.replace(annotation=inspect.Parameter.empty) for each in parameters])
            assert f"`{name}{plain}`" in page


def test_client_page_has_every_name_that_the_client_exports_and_every_option() -> None:
    page = read("documents/reference/client.md")
    for name in [*client.__all__, *OPTIONS]:
        assert f"`{name}`" in page or f"`{name}(" in page, name
    for code, kind in client.errors.BY_CODE.items():
        assert f"| `{kind.__name__}` | `{code}`" in page


def test_log_page_has_every_event() -> None:
    page = read("documents/reference/log-events.md")
    events = {
        event
        for module in (ROOT / "aftercommit").rglob("*.py")
        for event in re.findall(r"\blog\.\w+\(\s*\"(\w+)\"", module.read_text())
    }
    assert "task_failed" in events
    assert not {event for event in events if f"`{event}`" not in page}
    told = {
        name
        for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }
    source = "".join(module.read_text() for module in (ROOT / "aftercommit").rglob("*.py"))
    assert not {event for event in told if f'"{event}"' not in source}


def test_internals_page_has_every_table_and_index() -> None:
    page = read("documents/contributing/internals.md")
    for table in metadata.tables.values():
        assert f"`{table.name}`" in page
        for index in table.indexes:
            assert f"`{index.name}" in page


def test_fault_matrix_names_every_scenario_and_only_tests_that_exist() -> None:
    page = read("documents/contributing/fault-matrix.md")
    assert not {name for name in SCENARIOS if f"`{name}`" not in page}
    sources = "".join(module.read_text() for module in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert not {name for name in named if f"def {name}(" not in sources}
