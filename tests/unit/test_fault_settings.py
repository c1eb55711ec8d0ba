"""Settings on the fault suite's command line."""

import argparse

import pytest

from tests.faults.__main__ import setting


def test_setting_is_name_and_value() -> None:
    assert setting("RABBITMQ_QUEUE_TYPE=classic") == ("RABBITMQ_QUEUE_TYPE", "classic")
    assert setting("WORKER_QUEUES=tasks.high:6,tasks.low:1") == ("WORKER_QUEUES", "tasks.high:6,tasks.low:1")


@pytest.mark.parametrize("text", ["RABBITMQ_QUEUE_TYPE", "NO_SUCH_SETTING=1", "=classic", ""])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not NAME=VALUE"):
        setting(text)
