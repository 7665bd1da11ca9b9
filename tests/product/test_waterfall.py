"""The waterfall against a short model of it: order, sums, caps, all or nothing, and short draws (R15 to R19, R22)."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import at_par, drawn, holding, holdings, terms, usdt
from tests.product.strategies import markets
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Outcome, Reason, conclude
from topup.quote import quote_at, read_rate
from topup.rule import AccountKind, Terms
from topup.waterfall import Holding, Plan, PlannedDraw, Shortfall, carried_over, passed_over, plan_draws

SOURCES = ("USDT", "USDC", "USDG")


def shares_of(amount: int, worths: Sequence[int]) -> list[int]:
    """The model: what the first k sources give together is the lesser of the amount and what they are worth."""
    given_together = [min(amount, reached) for reached in accumulate(worths, initial=0)]
    return [after - before for before, after in pairwise(given_together)]


def credits_of(plan: Plan | Shortfall) -> list[int]:
    """The planned credits in rank order."""
    assert isinstance(plan, Plan)
    return [planned.credit.units for planned in plan.draws]


@pytest.mark.rule("R15")
class TestPreExecutionCheck:
    def test_plans_nothing_at_all_when_the_sources_together_fall_short(self) -> None:
        plan = plan_draws(terms(usdt(50), "USDT", "USDC"), holdings(30, 5))

        assert plan == Shortfall(available=usdt(35), missing=usdt(15))

    def test_plans_when_the_sources_together_hold_exactly_the_amount(self) -> None:
        plan = plan_draws(terms(usdt(50), "USDT", "USDC"), holdings(30, 20))

        assert credits_of(plan) == [30_000_000, 20_000_000]

    def test_falls_short_by_the_smallest_unit(self) -> None:
        plan = plan_draws(terms(usdt(50), "USDT"), holdings("49.999999"))

        assert plan == Shortfall(available=usdt("49.999999"), missing=usdt("0.000001"))

    def test_counts_a_source_nobody_quotes_as_nothing(self) -> None:
        unquoted = Holding(Money.parse("100", "BTC"), None)

        plan = plan_draws(terms(usdt(50), "BTC", "USDT"), [unquoted, holding(usdt(40))])

        assert plan == Shortfall(available=usdt(40), missing=usdt(10))

    def test_says_that_everything_is_missing_when_all_are_empty(self) -> None:
        plan = plan_draws(terms(usdt(50), "USDT", "USDC"), holdings(0, 0))

        assert plan == Shortfall(available=usdt(0), missing=usdt(50))

    @given(markets())
    def test_plans_exactly_when_the_worth_of_all_covers_the_amount(
        self, market: tuple[Terms, tuple[Holding, ...]]
    ) -> None:
        asked, held = market
        worth = sum(source.worth(asked.currency).units for source in held)

        plan = plan_draws(asked, held)

        match plan:
            case Plan():
                assert worth >= asked.amount.units
            case Shortfall(available=available, missing=missing):
                assert available.units == worth
                assert available + missing == asked.amount
                assert missing


@pytest.mark.rule("R16")
class TestOrder:
    @pytest.mark.parametrize(
        ("held", "shares"),
        [
            ((100, 100, 100), (50, 0, 0)),
            ((50, 100, 100), (50, 0, 0)),
            ((49, 100, 100), (49, 1, 0)),
            ((30, 15, 100), (30, 15, 5)),
            ((0, 0, 50), (0, 0, 50)),
            ((0, 50, 50), (0, 50, 0)),
            ((20, 0, 30), (20, 0, 30)),
        ],
    )
    def test_exhausts_each_source_before_the_next_gives_anything(
        self, held: tuple[int, ...], shares: tuple[int, ...]
    ) -> None:
        plan = plan_draws(terms(usdt(50), *SOURCES), holdings(*held))

        assert credits_of(plan) == [share * 1_000_000 for share in shares]

    @given(markets())
    def test_agrees_with_the_model(self, market: tuple[Terms, tuple[Holding, ...]]) -> None:
        asked, held = market
        worths = [source.worth(asked.currency).units for source in held]

        plan = plan_draws(asked, held)

        if isinstance(plan, Plan):
            assert credits_of(plan) == shares_of(asked.amount.units, worths)

    @given(st.integers(1, 10**9), st.lists(st.integers(0, 10**9), min_size=1, max_size=3), st.integers(0, 12))
    def test_shares_out_ten_times_as_much_in_the_same_proportions(
        self, amount: int, held: list[int], zeros: int
    ) -> None:
        def planned(factor: int) -> Plan | Shortfall:
            sources = [holding(Money("USDT", units * factor)) for units in held]
            return plan_draws(terms(Money("USDT", amount * factor), *SOURCES[: len(held)]), sources)

        once, scaled = planned(1), planned(10**zeros)

        if isinstance(once, Plan):
            assert credits_of(scaled) == [units * 10**zeros for units in credits_of(once)]
        else:
            assert isinstance(scaled, Shortfall)
            assert scaled.missing.units == once.missing.units * 10**zeros

    def test_keeps_a_place_in_the_plan_for_sources_that_are_not_needed(self) -> None:
        plan = plan_draws(terms(usdt(50), *SOURCES), holdings(50, 50, 50))

        assert isinstance(plan, Plan)
        assert [(planned.rank, planned.asset) for planned in plan.draws] == [
            (1, "USDT"),
            (2, "USDC"),
            (3, "USDG"),
        ]

    def test_refuses_holdings_that_are_not_those_of_the_sources(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            plan_draws(terms(usdt(50), "USDT", "USDC"), holdings(50))


@pytest.mark.rule("R19")
@pytest.mark.rule("R22")
class TestBounds:
    @given(markets())
    def test_credits_the_amount_exactly_and_debits_no_more_than_each_source_holds(
        self, market: tuple[Terms, tuple[Holding, ...]]
    ) -> None:
        asked, held = market

        plan = plan_draws(asked, held)

        if isinstance(plan, Plan):
            assert sum(credits_of(plan)) == asked.amount.units
            assert all(
                planned.debit <= source.available for planned, source in zip(plan.draws, held, strict=True)
            )

    @given(markets())
    def test_debits_the_least_that_is_worth_the_credit(
        self, market: tuple[Terms, tuple[Holding, ...]]
    ) -> None:
        asked, held = market

        plan = plan_draws(asked, held)

        for planned in plan.draws if isinstance(plan, Plan) else ():
            if planned.quote is None or not planned.credit:
                assert not planned.debit
            else:
                assert planned.quote.worth(planned.debit) >= planned.credit
                assert planned.quote.worth(planned.debit - Money(planned.asset, 1)) < planned.credit

    def test_values_each_source_at_its_own_quote(self) -> None:
        asked = Terms(
            Money.parse("20", "EUR"), Money.parse("100", "EUR"), AccountKind.TRADING, ("EUR", "USDT", "BTC")
        )
        held = [
            Holding(Money.parse("10", "EUR"), at_par("EUR", "EUR")),
            Holding(Money.parse("33", "USDT"), quote_at("USDT", "EUR", 1 / read_rate("1.10"))),
            Holding(Money.parse("1", "BTC"), quote_at("BTC", "EUR", read_rate("60000") / read_rate("1.10"))),
        ]

        plan = plan_draws(asked, held)

        assert isinstance(plan, Plan)
        assert [str(planned.credit) for planned in plan.draws] == ["10.00 EUR", "30.00 EUR", "60.00 EUR"]
        assert [str(planned.debit) for planned in plan.draws] == ["10.00 EUR", "33.00 USDT", "0.0011 BTC"]


def draw_all(plan: Plan, held: Sequence[Money], broken: Sequence[bool]) -> list[DrawResult]:
    """Draw a plan of sources at par, each holding this much by now; a broken one fails instead."""
    results: list[DrawResult] = []
    rest = Money.nothing("USDT")
    for place, (planned, source, fails) in enumerate(zip(plan.draws, held, broken, strict=True)):
        asked = planned.credit + rest
        if not asked:
            later = any(draw.credit for draw in plan.draws[place + 1 :])
            results.append(passed_over(planned, still_owed=later))
            continue
        gave = failed_draw(planned) if fails else answer_of(planned, min(asked, source), asked)
        results.append(gave)
        rest = carried_over(asked, gave)
    return results


def failed_draw(planned: PlannedDraw) -> DrawResult:
    """What a source answers that refuses."""
    return drawn(0, DrawStatus.FAILED, DrawReason.REJECTED, rank=planned.rank)


def answer_of(planned: PlannedDraw, gives: Money, asked: Money) -> DrawResult:
    """What a source answers that gives this much of what it was asked for."""
    short = gives < asked
    status = DrawStatus.SHORT if short else DrawStatus.TRANSFERRED
    return drawn(gives.text, status, DrawReason.INSUFFICIENT if short else None, rank=planned.rank)


def planned_for(amount: int, held: Sequence[int]) -> Plan:
    """A plan over sources at par that together hold enough."""
    plan = plan_draws(terms(usdt(amount), *SOURCES[: len(held)]), holdings(*held))
    assert isinstance(plan, Plan)
    return plan


@pytest.mark.rule("R17")
class TestASourceThatTurnsOutShorter:
    def test_gives_what_it_has_and_the_rest_flows_to_the_next(self) -> None:
        plan = planned_for(50, (30, 100))

        results = draw_all(plan, [usdt(10), usdt(100)], [False, False])

        assert [result.credited for result in results] == [usdt(10), usdt(40)]
        assert conclude(usdt(50), results).outcome is Outcome.COMPLETED

    def test_calls_on_a_source_that_was_not_needed_before(self) -> None:
        plan = planned_for(50, (50, 0, 100))

        results = draw_all(plan, [usdt(20), usdt(0), usdt(100)], [False, False, False])

        assert [result.status for result in results] == [
            DrawStatus.SHORT,
            DrawStatus.SHORT,
            DrawStatus.TRANSFERRED,
        ]
        assert [result.credited for result in results] == [usdt(20), usdt(0), usdt(30)]

    def test_leaves_the_top_up_partial_when_it_was_the_last(self) -> None:
        plan = planned_for(50, (30, 20))

        results = draw_all(plan, [usdt(30), usdt(5)], [False, False])

        ending = conclude(usdt(50), results)
        assert (ending.outcome, ending.reason, ending.credited) == (
            Outcome.PARTIAL,
            Reason.SOURCE_SHORT,
            usdt(35),
        )

    @pytest.mark.parametrize("gave", [0, 10, 49])
    def test_carries_over_exactly_what_it_did_not_give(self, gave: int) -> None:
        result = drawn(gave, DrawStatus.SHORT, DrawReason.INSUFFICIENT)

        assert carried_over(usdt(50), result) == usdt(50 - gave)


@pytest.mark.rule("R18")
class TestADrawThatFails:
    @pytest.mark.parametrize("status", [status for status in DrawStatus if status is not DrawStatus.SHORT])
    def test_passes_nothing_on(self, status: DrawStatus) -> None:
        assert carried_over(usdt(50), drawn(0, status)) == usdt(0)

    def test_leaves_its_share_untaken_while_the_other_planned_draws_run(self) -> None:
        plan = planned_for(50, (20, 20, 100))

        results = draw_all(plan, [usdt(20), usdt(20), usdt(100)], [False, True, False])

        assert [result.credited for result in results] == [usdt(20), usdt(0), usdt(10)]
        ending = conclude(usdt(50), results)
        assert (ending.outcome, ending.reason) == (Outcome.PARTIAL, Reason.SOURCE_FAILED)

    def test_loses_what_had_flowed_into_it_from_a_short_source(self) -> None:
        plan = planned_for(50, (30, 10, 100))

        results = draw_all(plan, [usdt(5), usdt(100), usdt(100)], [False, True, False])

        assert [result.credited for result in results] == [usdt(5), usdt(0), usdt(10)]

    def test_ends_the_top_up_in_a_system_error_when_it_was_the_only_one(self) -> None:
        plan = planned_for(50, (50,))

        ending = conclude(usdt(50), draw_all(plan, [usdt(50)], [True]))

        assert (ending.outcome, ending.reason) == (Outcome.FAILED, Reason.SYSTEM_ERROR)


@pytest.mark.rule("R19")
class TestATopUpAsAWhole:
    @given(
        st.integers(1, 100),
        st.lists(st.integers(0, 100), min_size=3, max_size=3),
        st.lists(st.integers(0, 100), min_size=3, max_size=3),
        st.lists(st.booleans(), min_size=3, max_size=3),
    )
    def test_never_credits_more_than_its_amount_nor_debits_more_than_is_there(
        self, amount: int, checked: list[int], held: list[int], broken: list[bool]
    ) -> None:
        plan = plan_draws(terms(usdt(amount), *SOURCES), holdings(*checked))
        if isinstance(plan, Shortfall):
            return

        results = draw_all(plan, [usdt(units) for units in held], broken)

        ending = conclude(usdt(amount), results)
        assert ending.credited <= usdt(amount)
        assert all(
            result.debited.units <= usdt(units).units for result, units in zip(results, held, strict=True)
        )
        if not any(broken) and held == checked:
            assert ending.outcome is Outcome.COMPLETED
        if not any(broken) and sum(held) >= amount and held[0] >= checked[0]:
            assert ending.credited >= usdt(min(amount, held[0]))


@pytest.mark.rule("R17")
class TestASourceThatIsNotAsked:
    def test_was_not_reached_when_nothing_was_owed_any_more(self) -> None:
        planned = planned_for(50, (50, 50)).draws[1]

        result = passed_over(planned, still_owed=False)

        assert (result.status, result.reason) == (DrawStatus.NOT_REACHED, None)
        assert not result.debited
        assert not result.credited

    def test_was_short_when_it_was_empty_at_its_turn(self) -> None:
        planned = planned_for(50, (0, 50)).draws[0]

        result = passed_over(planned, still_owed=True)

        assert (result.status, result.reason) == (DrawStatus.SHORT, DrawReason.INSUFFICIENT)
        assert result.credited == usdt(0)

    @pytest.mark.parametrize("still_owed", [True, False])
    def test_was_not_reached_when_nobody_quotes_it(self, still_owed: bool) -> None:
        planned = PlannedDraw(1, "BTC", Money.nothing("BTC"), usdt(0), None)

        result = passed_over(planned, still_owed=still_owed)

        assert (result.status, result.reason) == (DrawStatus.NOT_REACHED, DrawReason.UNKNOWN_ASSET)
        assert result.debited == Money.nothing("BTC")
        assert result.credited == Money.nothing("USDT")
