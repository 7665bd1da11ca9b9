"""What a failed activity call means for money: certainly nothing, or nobody knows."""

from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType  # noqa: A004 its name

from topup.outcome import DrawReason


def certain_refusal(error: ActivityError) -> DrawReason | None:
    """Why the draw was certainly never attempted; None when its outcome is unknown, which is the default (R21).

    Only a call that no worker took up in time is certain. Every other time-out, a worker's shutdown and every
    exception may have come after the money moved.
    """
    cause = error.cause
    if isinstance(cause, TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_START:
        return DrawReason.UNAVAILABLE
    return None


def why_unanswered(error: ActivityError) -> DrawReason:
    """Why a draw had to be looked up: it took too long, or its answer was lost."""
    cause = error.cause
    timed_out = isinstance(cause, TimeoutError) or (
        isinstance(cause, ApplicationError) and cause.type == TimeoutError.__name__
    )
    return DrawReason.TIMED_OUT if timed_out else DrawReason.UNAVAILABLE
