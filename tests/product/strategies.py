"""Where examples come from: money, quotes, holdings and terms of every scale the registry knows."""

from fractions import Fraction

from hypothesis import strategies as st

from topup.money import ASSET_SCALES, WHOLE_UNITS_MAX, Money, scale_of
from topup.quote import Quote, quote_at
from topup.rule import SOURCES_MAX, AccountKind, Terms
from topup.waterfall import Holding

assets = st.sampled_from(sorted(ASSET_SCALES))
account_kinds = st.sampled_from(AccountKind)


def amounts(asset: str, *, least: int = 0) -> st.SearchStrategy[Money]:
    """Money of one asset, from a single unit to the largest amount that can be typed."""
    most = WHOLE_UNITS_MAX * 10 ** scale_of(asset)
    units = st.one_of(st.integers(least, most), st.integers(least, 1000), st.integers(least, 10**12))
    return units.map(lambda count: Money(asset, min(count, most)))


monies = assets.flatmap(amounts)

rates = st.one_of(
    st.just(Fraction(1)),
    st.integers(1, 10**6).map(Fraction),
    st.builds(Fraction, st.integers(1, 10**18), st.integers(1, 10**18)),
)


@st.composite
def quotes(draw: st.DrawFn, asset: st.SearchStrategy[str] = assets, currency: str | None = None) -> Quote:
    """A quote between two assets; at par when they are the same."""
    source, target = draw(asset), currency or draw(assets)
    return quote_at(source, target, Fraction(1) if source == target else draw(rates))


@st.composite
def holdings_of(draw: st.DrawFn, asset: str, currency: str) -> Holding:
    """What a source holds, now and then of an asset nobody quotes."""
    quote = draw(quotes(st.just(asset), currency))
    unquoted = asset != currency and draw(st.integers(0, 9)) == 0
    return Holding(draw(amounts(asset)), None if unquoted else quote)


@st.composite
def all_terms(draw: st.DrawFn) -> Terms:
    """Terms within R1 and R2."""
    currency = draw(assets)
    chosen = draw(st.lists(assets, min_size=1, max_size=SOURCES_MAX, unique=True))
    threshold, amount = draw(amounts(currency, least=1)), draw(amounts(currency, least=1))
    return Terms(threshold, amount, draw(account_kinds), tuple(chosen))


@st.composite
def markets(draw: st.DrawFn) -> tuple[Terms, tuple[Holding, ...]]:
    """Terms, and what each of their sources holds."""
    terms = draw(all_terms())
    return terms, tuple(draw(holdings_of(asset, terms.currency)) for asset in terms.sources)
