"""Money that comes from outside or goes there, in the embedded ledger: deposits and payments."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.ids import new_id
from adapters.postgres.ledger import deposit, deposit_to, open_account, pay_from
from adapters.postgres.wallets import WalletName
from topup.money import Money
from topup.rule import AccountKind
from topup.trigger import Kept

_KEY_USED = "TM001"
"""The ledger's own word for a key that belongs to another request."""


class BalanceInsufficient(Exception):
    """The wallet holds less than the payment."""

    def __init__(self, amount: Money, balance: Money) -> None:
        """Say what was asked and what there is."""
        self.balance = balance
        super().__init__(
            f"The wallet holds {balance}, less than the {amount} asked for. Nothing was moved: add money first, "
            "then pay with a new Idempotency-Key."
        )


class PaymentDiffers(Exception):
    """Another payment, of another amount or from another wallet, was made under this id before."""


class WalletKeptElsewhere(Exception):
    """The ledger does not keep the wallet's balance, so no money comes into it or leaves it here."""

    def __init__(self, wallet_id: str) -> None:
        """Say how its balance changes instead."""
        super().__init__(
            f"The balance of {wallet_id} is kept elsewhere: move the money there, and report the new balance to "
            "/v1/balance-events."
        )


@dataclass(frozen=True, slots=True)
class Posted:
    """A deposit or payment that has happened, and what the account holds after it."""

    id: str
    amount: Money
    balance: Money


async def deposit_to_wallet(
    session: AsyncSession, wallet: WalletName, amount: Money, *, payment_id: str | None = None
) -> Posted:
    """Bring money from outside into the wallet, in the caller's commit; it never fires a rule.

    With a `payment_id`, once for it. Raises PaymentDiffers and WalletKeptElsewhere.
    """
    _refuse_kept_elsewhere(wallet)
    transfer_id = payment_id or new_id("transfer")
    with _telling_apart(transfer_id):
        crossing = await deposit_to(session, key=transfer_id, wallet_id=wallet.id, amount=amount)
    return Posted(transfer_id, amount, crossing.balance)


async def deposit_to_account(
    session: AsyncSession, *, owner_id: str, kind: AccountKind, amount: Money
) -> Posted:
    """Bring money from outside into one asset of the owner's exchange account, in the caller's commit."""
    account_id = await open_account(
        session, kind=kind.value, owner_id=owner_id, wallet_id=None, asset=amount.asset
    )
    transfer_id = new_id("transfer")
    crossing = await deposit(session, key=transfer_id, account_id=account_id, amount=amount)
    return Posted(transfer_id, amount, crossing.balance)


async def pay_from_wallet(
    session: AsyncSession, wallet: WalletName, amount: Money, *, payment_id: str | None = None
) -> Posted | BalanceInsufficient:
    """Spend from the wallet in the caller's commit, or give the refusal, which the ledger remembers: commit it too.

    With a `payment_id`, once for it: the same payment again moves nothing and says the same. Raises PaymentDiffers for
    another payment under its id, and WalletKeptElsewhere.
    """
    _refuse_kept_elsewhere(wallet)
    payment_id = payment_id or new_id("payment")
    with _telling_apart(payment_id):
        crossing = await pay_from(session, key=payment_id, wallet_id=wallet.id, amount=amount)
    if not crossing.moved:
        return BalanceInsufficient(amount, crossing.balance)
    return Posted(payment_id, amount, crossing.balance)


@contextmanager
def _telling_apart(payment_id: str) -> Iterator[None]:
    """Call by its name what the ledger refuses because its key belongs to another request."""
    try:
        yield
    except DBAPIError as refused:
        if getattr(refused.orig, "sqlstate", None) == _KEY_USED:
            raise PaymentDiffers(payment_id) from refused
        raise


def _refuse_kept_elsewhere(wallet: WalletName) -> None:
    if wallet.kept is Kept.ELSEWHERE:
        raise WalletKeptElsewhere(wallet.id)
