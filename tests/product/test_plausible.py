"""Answers that can be true, and every way of not being so: only the first are believed (R19, R21, R22)."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.product.strategies import amounts, assets, quotes
from topup.money import Money
from topup.plausible import Given, find_nonsense
from topup.quote import Quote


@st.composite
def asked_for(draw: st.DrawFn) -> tuple[Money, Quote]:
    """What a source is asked to credit, and at which quote."""
    quote = draw(quotes())
    return draw(amounts(quote.currency, least=1)), quote


@st.composite
def true_answers(draw: st.DrawFn) -> tuple[Given, Money, Quote]:
    """What a source that holds this much answers, by the ledger's own reckoning."""
    asked, quote = draw(asked_for())
    available = draw(amounts(quote.asset))
    credited = asked if quote.cost(asked) <= available else quote.worth(available)
    assume(credited)
    return Given(quote.cost(credited), credited, short=credited < asked), asked, quote


@pytest.mark.rule("R22")
class TestATrueAnswer:
    @given(true_answers())
    def test_is_believed_whatever_the_source_holds(self, told: tuple[Given, Money, Quote]) -> None:
        answer, asked, quote = told

        assert find_nonsense(answer, asked=asked, quote=quote) is None


class TestAnAnswerThatCannotBeTrue:
    @pytest.mark.rule("R19")
    @given(true_answers(), st.integers(1, 10**30))
    def test_credits_more_than_was_asked(self, told: tuple[Given, Money, Quote], more: int) -> None:
        _, asked, quote = told
        credited = asked + Money(asked.asset, more)

        for short in (False, True):
            answer = Given(quote.cost(credited), credited, short)
            assert find_nonsense(answer, asked=asked, quote=quote) is not None

    @pytest.mark.rule("R22")
    @given(true_answers(), st.integers(-(10**30), 10**30).filter(bool))
    def test_debits_more_or_less_than_the_credit_costs(
        self, told: tuple[Given, Money, Quote], error: int
    ) -> None:
        answer, asked, quote = told
        debited = Money(answer.debited.asset, max(answer.debited.units + error, 0))

        assert find_nonsense(replace(answer, debited=debited), asked=asked, quote=quote) is not None

    @pytest.mark.rule("R17")
    @given(true_answers())
    def test_says_short_of_all_or_all_of_less(self, told: tuple[Given, Money, Quote]) -> None:
        answer, asked, quote = told
        turned = replace(answer, short=not answer.short)

        assert find_nonsense(turned, asked=asked, quote=quote) is not None

    @pytest.mark.rule("R21")
    @given(true_answers(), assets)
    def test_speaks_of_other_assets(self, told: tuple[Given, Money, Quote], other: str) -> None:
        answer, asked, quote = told
        assume(other not in {quote.asset, quote.currency})

        for wrong in (
            replace(answer, credited=Money(other, answer.credited.units)),
            replace(answer, debited=Money(other, answer.debited.units)),
        ):
            assert find_nonsense(wrong, asked=asked, quote=quote) is not None

    @pytest.mark.rule("R17")
    @given(asked_for())
    def test_gives_nothing_and_does_not_call_it_a_refusal(self, told: tuple[Money, Quote]) -> None:
        asked, quote = told
        nothing = Given(Money.nothing(quote.asset), Money.nothing(asked.asset), short=True)

        assert find_nonsense(nothing, asked=asked, quote=quote) is not None
