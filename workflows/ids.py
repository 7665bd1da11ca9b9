"""Names on the wire: search attributes, queue and schedule. Never encrypted, so no personal facts in them."""

from collections.abc import Mapping
from types import MappingProxyType

from temporalio.common import SearchAttributeIndexedValueType, SearchAttributeKey

TASK_QUEUE = "tidemark"
SWEEP_ID = "tidemark-sweep"


def channel_queue(task_queue: str, channel: str) -> str:
    """The queue of what tells owners by this channel: one that hangs keeps neither money nor other channels waiting."""
    return f"{task_queue}-{channel}"


RULE = SearchAttributeKey.for_keyword("TidemarkRule")
WALLET = SearchAttributeKey.for_keyword("TidemarkWallet")
OWNER = SearchAttributeKey.for_keyword("TidemarkOwner")
OUTCOME = SearchAttributeKey.for_keyword("TidemarkOutcome")
REASON = SearchAttributeKey.for_keyword("TidemarkReason")
NEEDS_ATTENTION = SearchAttributeKey.for_bool("TidemarkNeedsAttention")

OPEN = "open"
"""Value of the outcome attribute while a top-up runs."""

SEARCH_ATTRIBUTES: Mapping[str, SearchAttributeIndexedValueType] = MappingProxyType(
    {key.name: key.indexed_value_type for key in (RULE, WALLET, OWNER, OUTCOME, REASON, NEEDS_ATTENTION)}
)
"""Every search attribute with its type, to be registered before the first start."""
