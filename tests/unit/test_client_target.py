"""Where a client finds its service, and what it refuses."""

import pytest

import aftercommit
from aftercommit import AsyncClient, Client
from aftercommit.client.target import Target, checked_url


def read(url: str | None = None, api_key: str | None = None) -> Target:
    return Target.read(url, api_key=api_key, timeout=30, try_timeout=10)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFTERCOMMIT_URL", raising=False)
    monkeypatch.delenv("AFTERCOMMIT_API_KEY", raising=False)


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCOMMIT_URL", "http://tasks.internal:8000/")
    monkeypatch.setenv("AFTERCOMMIT_API_KEY", "from-the-environment")
    target = read()
    assert target.url == "http://tasks.internal:8000"
    assert target.headers["Authorization"] == "Bearer from-the-environment"


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCOMMIT_URL", "http://tasks.internal:8000")
    monkeypatch.setenv("AFTERCOMMIT_API_KEY", "from-the-environment")
    target = read("https://other.example.com/tasks/", "given")
    assert target.url == "https://other.example.com/tasks"
    assert target.headers["Authorization"] == "Bearer given"


def test_no_key_sends_no_authorization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCOMMIT_API_KEY", "")
    target = read("http://127.0.0.1:8000")
    assert "Authorization" not in target.headers
    assert target.headers["User-Agent"] == f"aftercommit/{aftercommit.__version__}"


def test_key_is_not_shown() -> None:
    assert "hunter2" not in repr(read("http://127.0.0.1:8000", "hunter2"))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_client_without_a_url_says_how_to_give_one(kind: type[Client] | type[AsyncClient]) -> None:
    with pytest.raises(ValueError, match="set AFTERCOMMIT_URL"):
        kind()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("127.0.0.1:8000", "is not the URL of an API|cannot be read"),
        ("localhost:8000", "is not the URL of an API"),
        ("ftp://127.0.0.1", "is not the URL of an API"),
        ("http://", "is not the URL of an API"),
        ("http:///v1", "is not the URL of an API"),
        ("/v1/tasks", "is not the URL of an API"),
        ("http://127.0.0.1:80000", "has a port that there is not|cannot be read"),
        ("http://127.0.0.1:port", "cannot be read"),
        ("http://127.0.0.1:8000/?a=1", "leave out what begins"),
        ("http://127.0.0.1:8000/#a", "leave out what begins"),
        ("http://127.0.0.1:8000\n", "cannot be read"),
    ],
)
def test_url_that_cannot_be_is_refused_with_the_reason(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        checked_url(url)


def test_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="has a user or password in it") as caught:
        checked_url("http://ada:hunter2@127.0.0.1:8000")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["a b", "a\n", "ä"])
def test_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="other than visible ASCII") as caught:
        read("http://127.0.0.1:8000", key)
    assert key not in str(caught.value)


def test_time_that_is_none_is_refused() -> None:
    for timeout in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="give seconds above 0"):
            Client("http://127.0.0.1:8000", timeout=timeout)
