"""Money that comes from outside or goes there, in the embedded ledger: deposits and payments."""

from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.ids import new_id
from adapters.postgres.ledger import deposit, deposit_to, open_account, pay_from
from adapters.postgres.wallets import WalletName
from topup.money import Money
from topup.rule import AccountKind
from topup.trigger import Kept


class BalanceInsufficient(Exception):
    """The wallet holds less than the payment."""

    def __init__(self, amount: Money, balance: Money) -> None:
        """Say what was asked and what there is."""
        super().__init__(
            f"The wallet holds {balance}, less than the {amount} asked for. Nothing was moved: add money first, "
            "then pay with a new Idempotency-Key."
        )


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


async def deposit_to_wallet(session: AsyncSession, wallet: WalletName, amount: Money) -> Posted:
    """Bring money from outside into the wallet, in the caller's commit; it never fires a rule.

    Raises WalletKeptElsewhere.
    """
    _refuse_kept_elsewhere(wallet)
    transfer_id = new_id("transfer")
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
    session: AsyncSession, wallet: WalletName, amount: Money
) -> Posted | BalanceInsufficient:
    """Spend from the wallet in the caller's commit, or give the refusal, which the ledger remembers: commit it too.

    Raises WalletKeptElsewhere.
    """
    _refuse_kept_elsewhere(wallet)
    payment_id = new_id("payment")
    crossing = await pay_from(session, key=payment_id, wallet_id=wallet.id, amount=amount)
    if not crossing.moved:
        return BalanceInsufficient(amount, crossing.balance)
    return Posted(payment_id, amount, crossing.balance)


def _refuse_kept_elsewhere(wallet: WalletName) -> None:
    if wallet.kept is Kept.ELSEWHERE:
        raise WalletKeptElsewhere(wallet.id)
