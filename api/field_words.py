"""What a field or parameter is, in words, for all the schemas that name it and do not say so themselves."""

from collections.abc import Mapping
from types import MappingProxyType

PARAMETER_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "state": "Only those in this state.",
        "outcome": "Only those that ended so.",
    }
)
"""By the parameter's name."""

FIELD_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "account": "The part of the owner's exchange account that money comes from.",
        "alert": "The low-balance banner: null while all is well, or while a top-up is on its way.",
        "asset": "Which asset.",
        "at": "When it happened.",
        "attempts": "How often delivery was tried.",
        "available": "What can be drawn now.",
        "balance": "What the wallet held then.",
        "by": "Whose key it was.",
        "caps": "Bounds on what the rule may move in a day and in a month; null is none.",
        "code": "Stable, for programs.",
        "confirmation": "The passkey's proof, where there was one.",
        "created_at": "When it was made.",
        "credited": "What arrived in the wallet, in its currency.",
        "currency": "The wallet's asset.",
        "debited": "What was taken, in the source's own asset.",
        "detail": "What happened, and what to do next.",
        "enabled": "Whether it is turned on.",
        "ended_at": "When it ended; null while it runs.",
        "event_id": "The balance event that was judged.",
        "fired": "Whether a top-up was started.",
        "has_more": "Whether there is another page.",
        "kept": "Where the wallet's balance is kept.",
        "locked_by": "The top-up in progress, which holds the rule's lock; null when it is free.",
        "message": "In words, for people.",
        "next_cursor": "What `after` takes to get the next page; null on the last one.",
        "notifications": "How the owner was told, by channel.",
        "outcome": "How it ended; null while it runs.",
        "rank": "1 gives first.",
        "rate": "What one whole unit of the asset is worth.",
        "reason": "Why.",
        "request_id": "The id under which the request is logged.",
        "rule_id": "The rule.",
        "rule_version": "The version of the rule it fired under.",
        "sent_at": "When it was delivered; null until then.",
        "sources": "The assets money comes from, in the order they are drawn.",
        "started_at": "When it was started.",
        "state": "How it stands.",
        "threshold": "The line: a balance strictly below it starts a top-up.",
        "times": "How many draws it concerns.",
        "top_up_id": "The top-up.",
        "trigger": "The balance change that made the rule fire.",
        "updated_at": "When it was last saved.",
        "version": "Counts the saves; the ETag.",
        "waiting_for": "What a waiting rule waits for; null in any other state.",
        "workflow_id": "Its run in Temporal.",
        "Balance.asset": "The asset held.",
        "Payment.balance": "What the wallet holds afterwards.",
        "PaymentOrder.amount": "How much to spend, in the wallet's currency.",
        "Problem.code": "The kind of refusal: stable, for programs. Codes may be added.",
        "Problem.errors": "What is wrong with which field.",
        "Problem.status": "The HTTP status.",
        "Problem.title": "The kind of refusal, in words.",
        "Problem.type": "The kind of refusal, as a URN.",
        "FieldProblem.pointer": "A JSON pointer into the body, or `/query/...` and the like for a parameter.",
        "Rule.amount": "How much one top-up moves.",
        "RuleEdit.amount": "How much one top-up moves.",
        "RuleOrder.amount": "How much one top-up moves.",
        "RuleOrder.enabled": "Whether it is on from the start.",
        "TopUp.amount": "How much was to be moved.",
        "TopUp.draws": "The result of each source, in rank order.",
        "Transfer.account": "The exchange account it went to; null for a wallet.",
        "Transfer.balance": "What the wallet or asset holds afterwards.",
        "Trigger.threshold": "The line it fell below.",
        "Wallet.balance": "What it holds now.",
        "Wallet.rule_id": "The rule that keeps it topped up; null when it has none.",
    }
)
"""By field, or by schema and field where that says more."""
