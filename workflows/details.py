"""What an operator reads in Temporal's Web UI: Markdown made from the order and what is known so far."""

from collections.abc import Sequence

from activities.messages import DrawName, Ended, Order, Settled
from topup.outcome import DrawResult
from topup.words import BEING_CHECKED, draw_line, draw_lines, headline, why


def summary(order: Order) -> str:
    """The run in one line: whose wallet, how much, why."""
    return (
        f"Top up {order.owner_name}'s wallet with {order.terms.amount}: "
        f"balance {order.trigger_balance} fell below {order.terms.threshold}"
    )


def details(order: Order) -> str:
    """The run's terms, for its page."""
    ranked = "\n".join(f"{rank}. {asset}" for rank, asset in order.terms.ranked)
    return (
        f"**Whose rule**: {order.owner_name} (`{order.owner_id}`), "
        f"rule `{order.rule_id}`, wallet `{order.wallet_id}`\n\n"
        f"**Trigger**: event `{order.trigger_event_id}` left {order.trigger_balance}, "
        f"below the threshold of {order.terms.threshold}\n\n"
        f"**To do**: move {order.terms.amount} from the {order.terms.account.value} account, "
        f"each source exhausted before the next:\n\n{ranked}\n"
    )


def progress(doing: str, results: Sequence[DrawResult] = (), *, checking: DrawName | None = None) -> str:
    """What the run is doing now, and the result of each source so far."""
    lines = [f"**Now**: {doing}", ""]
    lines += [draw_line(result) for result in results]
    if checking is not None:
        lines.append(f"{checking.rank}. {checking.asset}: {BEING_CHECKED}.")
    return "\n".join(lines)


def end_in_words(order: Order, settled: Settled, results: Sequence[DrawResult]) -> str:
    """How the run ended, and what each source gave."""
    lines = [f"**{headline(settled.ending, order.terms.amount)}.** {why(settled.ending.reason)}", ""]
    return "\n".join([*lines, *draw_lines(results)])


def ended(order: Order, settled: Settled, results: Sequence[DrawResult]) -> Ended:
    """The run's result, in words and codes."""
    ending = settled.ending
    words = (f"{headline(ending, order.terms.amount)}.", why(ending.reason), *draw_lines(results))
    return Ended(
        top_up_id=order.top_up_id,
        outcome=ending.outcome.value,
        reason=ending.reason.value,
        credited=str(ending.credited),
        in_words=words,
    )


def stray(order: Order) -> Ended:
    """The result of a run that did not hold the lock: it touched nothing."""
    return Ended(
        top_up_id=order.top_up_id,
        outcome="not_run",
        reason="lock_not_held",
        credited=f"0 {order.terms.currency}",
        in_words=(
            "This run does not hold the rule's lock: the top-up has ended already. Nothing was moved.",
        ),
    )
