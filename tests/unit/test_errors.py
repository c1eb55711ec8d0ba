"""The tree of errors: what clients may rely on."""

import re
from collections.abc import Iterator

import pytest

from aftercommit.core.errors import AftercommitError


def kinds(root: type[AftercommitError] = AftercommitError) -> Iterator[type[AftercommitError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def test_each_kind_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in kinds()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", list(kinds()), ids=[kind.code for kind in kinds()])
def test_kind_is_complete(kind: type[AftercommitError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    assert 400 <= kind.status < 600
    assert kind is AftercommitError or kind.title != AftercommitError.title
    # What may succeed later says when, and nothing else does.
    assert (kind.retry_after_seconds is not None) == (kind.status in (429, 503))
