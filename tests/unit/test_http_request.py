"""The pure rules of http.request: which addresses are public, and what Retry-After means."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.handlers.http_request import LONGEST_RETRY_AFTER_SECONDS, is_public, retry_after_seconds

PUBLIC = ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = {
    "loopback": ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1"],
    "this host": ["0.0.0.0", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fec0::1", "::ffff:10.0.0.1"],
    "link local": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254"],
    "shared and assigned": ["100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "240.0.0.1"],
    "documentation": ["192.0.2.1", "2001:db8::1"],
    "everybody": ["255.255.255.255", "224.0.0.1", "ff02::1"],
    "tunnels inward": ["2002:7f00:1::", "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2001::80ff:fffe"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_address_is_public_when_it_is_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", [address for kind in PRIVATE.values() for address in kind])
def test_address_is_refused_when_it_leads_inside(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_mapped_address_is_judged_as_what_it_is(address: object) -> None:
    assert is_public(f"::ffff:{address}") == is_public(str(address))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("00000000060", 60),
        ("9" * 400, LONGEST_RETRY_AFTER_SECONDS),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 1999 23:59:59", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER_SECONDS),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 1999 99999999999999999999:59:59 GMT", None),
        ("Fri, 31 Dec 1999 23:59:59 +99999999999999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", LONGEST_RETRY_AFTER_SECONDS),
    ],
)
def test_retry_after_is_seconds_within_a_day(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value) == seconds


def test_retry_after_is_the_time_left_when_it_is_a_date() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)
    seconds = retry_after_seconds(format_datetime(moment, usegmt=True))
    assert seconds is not None
    assert 85 <= seconds <= 91


@given(
    st.text(max_size=60) | st.from_regex(r"\A[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,25} [\d:]{1,30} [+-]?\w{1,25}\Z")
)
def test_retry_after_is_usable_or_nothing_when_it_is_anything(value: str) -> None:
    seconds = retry_after_seconds(value)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_SECONDS
