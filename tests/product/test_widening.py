"""R5: what widens a rule that is on, and so needs its owner's passkey, and what does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.builders import usdt
from tests.product.strategies import account_kinds, assets
from topup.caps import Cap, Caps
from topup.rule import SOURCES_MAX, AccountKind, Terms
from topup.widening import Agreement, Widening, widenings, widens

TERMS = Terms(usdt(50), usdt(100), AccountKind.FUNDING, ("USDT", "USDC", "BTC"))
CAPS = Caps(day=Cap(usdt(300), 3), month=Cap(usdt(1000), None))
AGREED = Agreement(TERMS, CAPS)

few = st.integers(1, 4)
caps = st.none() | st.builds(
    Caps,
    *[st.none() | st.builds(Cap, st.none() | few.map(lambda n: usdt(n * 100)), st.none() | few)] * 2,
)
agreements = st.builds(
    Agreement,
    st.builds(
        Terms,
        few.map(usdt),
        few.map(usdt),
        account_kinds,
        st.lists(assets, min_size=1, max_size=SOURCES_MAX, unique=True).map(tuple),
    ),
    caps,
)


def bounded(agreement: Agreement) -> Agreement:
    """The same agreement, with caps that bound nothing written as no caps."""
    kept = agreement.caps
    bounds = {cap and (cap.amount, cap.count) for cap in ((kept.day, kept.month) if kept else ())}
    if bounds <= {None, (None, None)}:
        return replace(agreement, caps=None)
    assert kept is not None
    empty = Cap(None, None)
    return replace(agreement, caps=Caps(kept.day or empty, kept.month or empty))


@pytest.mark.rule("R5")
class TestWidening:
    @pytest.mark.parametrize(
        ("after", "how"),
        [
            (replace(TERMS, threshold=usdt("50.000001")), Widening.THRESHOLD_RAISED),
            (replace(TERMS, amount=usdt("100.000001")), Widening.AMOUNT_RAISED),
            (replace(TERMS, account=AccountKind.TRADING), Widening.ACCOUNT_CHANGED),
            (replace(TERMS, sources=("USDC", "USDT", "BTC")), Widening.SOURCES_CHANGED),
            (replace(TERMS, sources=("USDT", "USDC", "ETH")), Widening.SOURCES_CHANGED),
            (replace(TERMS, sources=("BTC", "USDT")), Widening.SOURCES_CHANGED),
        ],
    )
    def test_is_each_term_that_goes_further(self, after: Terms, how: Widening) -> None:
        assert widenings(AGREED, Agreement(after, CAPS)) == (how,)

    @pytest.mark.parametrize(
        "after",
        [
            None,
            replace(CAPS, day=None),
            replace(CAPS, day=Cap(usdt(301), 3)),
            replace(CAPS, day=Cap(usdt(300), 4)),
            replace(CAPS, day=Cap(usdt(300), None)),
            replace(CAPS, month=Cap(None, 10)),
        ],
    )
    def test_is_a_cap_raised_or_taken_off(self, after: Caps | None) -> None:
        assert widenings(AGREED, Agreement(TERMS, after)) == (Widening.CAP_RAISED,)

    @pytest.mark.parametrize(
        "after",
        [
            AGREED,
            Agreement(replace(TERMS, threshold=usdt(49), amount=usdt(99)), CAPS),
            Agreement(replace(TERMS, sources=("USDT", "BTC")), CAPS),
            Agreement(replace(TERMS, sources=("BTC",)), CAPS),
            Agreement(TERMS, replace(CAPS, day=Cap(usdt(200), 1))),
            Agreement(TERMS, replace(CAPS, month=Cap(usdt(1000), 4))),
        ],
    )
    def test_is_nothing_that_only_narrows(self, after: Agreement) -> None:
        assert not widens(AGREED, after)

    @given(agreements)
    def test_is_not_saving_the_same_again(self, agreement: Agreement) -> None:
        assert not widens(agreement, agreement)

    @given(agreements, agreements, agreements)
    def test_cannot_be_reached_by_narrowing_twice(
        self, first: Agreement, second: Agreement, third: Agreement
    ) -> None:
        if not widens(first, second) and not widens(second, third):
            assert not widens(first, third)

    @given(agreements, agreements)
    def test_is_one_way_or_the_other_between_two_that_differ(self, one: Agreement, other: Agreement) -> None:
        if bounded(one) != bounded(other):
            assert widens(one, other) or widens(other, one)

    @given(agreements, agreements)
    def test_lets_no_firing_move_more_without_it(self, before: Agreement, after: Agreement) -> None:
        if not widens(before, after):
            assert after.terms.threshold <= before.terms.threshold
            assert after.terms.amount <= before.terms.amount
            assert set(after.terms.sources) <= set(before.terms.sources)
