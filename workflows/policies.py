"""The two retry policies, and the only ways to call an activity: each deed gets its options from here."""

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

from activities.messages import Patience

SINGLE_ATTEMPT = RetryPolicy(maximum_attempts=1)
"""For everything that checks or moves money: the system never tries it again (R20)."""

BOOKKEEPING = RetryPolicy(
    initial_interval=timedelta(milliseconds=250),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=15),
    maximum_attempts=0,
)
"""For what cannot move money and must not be given up: tried until it is done."""


class Options(TypedDict, total=False):
    """The options of one activity call, spelled out."""

    task_queue: str
    retry_policy: RetryPolicy
    start_to_close_timeout: timedelta
    schedule_to_start_timeout: timedelta
    schedule_to_close_timeout: timedelta
    cancellation_type: ActivityCancellationType


def checking(patience: Patience) -> Options:
    """Look at the wallet and the sources, once."""
    return Options(
        retry_policy=SINGLE_ATTEMPT,
        start_to_close_timeout=patience.check,
        schedule_to_start_timeout=patience.draw * 2,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def drawing(patience: Patience) -> Options:
    """Draw once. Not taken up in time is a certain no; no heartbeat, which would only add a false unknown."""
    return Options(
        retry_policy=SINGLE_ATTEMPT,
        start_to_close_timeout=patience.draw,
        schedule_to_start_timeout=patience.draw * 2,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def bookkeeping() -> Options:
    """Confirm, look up, settle: until it is done. One try is short, so that a killed worker holds no rule for long."""
    return Options(
        retry_policy=BOOKKEEPING,
        start_to_close_timeout=timedelta(seconds=10),
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def notifying(give_up_after: timedelta, *, task_queue: str) -> Options:
    """Deliver, again and again until it works or this much time has passed, in the channel's own queue (R24)."""
    return Options(
        task_queue=task_queue,
        retry_policy=BOOKKEEPING,
        start_to_close_timeout=timedelta(seconds=30),
        schedule_to_close_timeout=give_up_after,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def sweeping() -> Options:
    """Go over everything that is open."""
    return Options(retry_policy=BOOKKEEPING, start_to_close_timeout=timedelta(minutes=5))
