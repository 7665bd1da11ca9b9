"""Look at the wallet and check the sources, before anything moves (R14, R15)."""

from dataclasses import dataclass

from temporalio import activity

from activities.messages import Checked, CheckOrder, Covered, Recovered, Uncovered
from activities.ports import Accounts, Sight, TopUps
from topup.rule import Terms
from topup.waterfall import Plan, plan_draws


@dataclass(frozen=True, slots=True)
class Check:
    """Over the accounts, and the record that keeps what was found."""

    accounts: Accounts
    top_ups: TopUps

    @activity.defn(name="check")
    async def check(self, order: CheckOrder) -> Checked:
        """Read once, and plan the draws from what was read. Never retried by the system (R20).

        A top-up is planned once: a run that an operator has reset draws by the first one's plan, under its keys.
        """
        checked = Checked(finding=judge_sight(order.terms, await self.accounts.look(order)))
        return await self.top_ups.remember_check(order.top_up_id, checked)


def judge_sight(terms: Terms, sight: Sight) -> Recovered | Covered | Uncovered:
    """What the balance and the holdings mean for a top-up under these terms."""
    if sight.balance >= terms.threshold:
        return Recovered(balance=sight.balance)
    plan = plan_draws(terms, sight.holdings)
    if isinstance(plan, Plan):
        return Covered(balance=sight.balance, draws=plan.draws)
    return Uncovered(balance=sight.balance, available=plan.available, missing=plan.missing)
