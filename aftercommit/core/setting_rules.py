"""What settings must agree on with each other.

Settings of different roles meet here only when one environment sets both: a role is not asked to know another's.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # it imports this module
    from aftercommit.core.settings import Settings


def _no_queue_comes_twice(settings: "Settings") -> str | None:
    if len(set(settings.queues)) < len(settings.queues):
        return "QUEUES names a queue twice: name it once"
    return None


def _no_work_queue_comes_twice(settings: "Settings") -> str | None:
    names = [pattern for pattern, _ in settings.worker_queues]
    if len(set(names)) < len(names):
        return "WORKER_QUEUES names a work queue twice: name it once"
    return None


def _all_or_no_work_queues_have_a_weight(settings: "Settings") -> str | None:
    if len({weight is None for _, weight in settings.worker_queues}) > 1:
        return "WORKER_QUEUES gives some queues a weight: give all of them one, or none"
    return None


def _lease_outlasts_a_failed_renewal(settings: "Settings") -> str | None:
    if settings.worker_lease_renew_seconds * 2 > settings.worker_lease_seconds:
        return (
            f"WORKER_LEASE_SECONDS ({settings.worker_lease_seconds:g}) must be at least twice "
            f"WORKER_LEASE_RENEW_SECONDS ({settings.worker_lease_renew_seconds:g}), so that one renewal may fail"
        )
    return None


def _payload_fits_into_a_body(settings: "Settings") -> str | None:
    if settings.api_max_payload_bytes > settings.api_max_body_bytes:
        return (
            f"API_MAX_PAYLOAD_BYTES ({settings.api_max_payload_bytes}) must be at most API_MAX_BODY_BYTES "
            f"({settings.api_max_body_bytes}): no larger payload gets in"
        )
    return None


def _largest_body_gets_in(settings: "Settings") -> str | None:
    if settings.api_max_body_bytes > settings.api_max_bodies_bytes:
        return (
            f"API_MAX_BODIES_BYTES ({settings.api_max_bodies_bytes}) must be at least API_MAX_BODY_BYTES "
            f"({settings.api_max_body_bytes}): one body of that size must get in"
        )
    return None


def _response_fits_into_a_result(settings: "Settings") -> str | None:
    if settings.http_max_response_bytes >= settings.worker_max_result_bytes:
        return (
            f"HTTP_MAX_RESPONSE_BYTES ({settings.http_max_response_bytes}) must be below WORKER_MAX_RESULT_BYTES "
            f"({settings.worker_max_result_bytes}): an http.request task keeps the response in its result"
        )
    return None


def _reconciler_waits_for_handed_back_messages(settings: "Settings") -> str | None:
    if {"reconcile_after_seconds", "worker_hand_back_seconds"} <= settings.model_fields_set and (
        settings.reconcile_after_seconds <= settings.worker_hand_back_seconds
    ):
        return (
            f"RECONCILE_AFTER_SECONDS ({settings.reconcile_after_seconds:g}) must be above WORKER_HAND_BACK_SECONDS "
            f"({settings.worker_hand_back_seconds:g}): a message that a worker holds so long is not lost"
        )
    return None


RULES: Final[tuple[Callable[["Settings"], str | None], ...]] = (
    _no_queue_comes_twice,
    _no_work_queue_comes_twice,
    _all_or_no_work_queues_have_a_weight,
    _lease_outlasts_a_failed_renewal,
    _payload_fits_into_a_body,
    _largest_body_gets_in,
    _response_fits_into_a_result,
    _reconciler_waits_for_handed_back_messages,
)
"""Each returns a line that names the settings and says what to do, or None."""


def broken_rules(settings: "Settings") -> list[str]:
    """A line for each rule that ``settings`` break."""
    return [line for rule in RULES if (line := rule(settings)) is not None]
