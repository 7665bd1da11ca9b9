"""The eight stories: what the product does for an owner, case by case, as its questions and answers tell it."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

from runtime.demo.api import await_until
from runtime.demo.household import CURRENCY, Household, Opening
from runtime.demo.scene import Given, Scene, usdt
from topup.outcome import DrawReason, DrawStatus
from topup.rule import AccountKind
from topup.trigger import DecisionReason

PAYMENTS = 100
_WAITING = "waiting, for balance_at_threshold"
_ARRIVED = "Your Pay wallet was topped up with {} USDT"
_SHORT = "Your top-up came up short: {} of {} USDT arrived"
_FAILED = "Your top-up of {} USDT failed: nothing was moved"
_LOW = "Your Pay wallet is below {} USDT, and no top-up is on its way"


@dataclass(frozen=True, slots=True)
class Story:
    """One case. `wallet` and `left` are what the wallet and each source hold at the end, `mails` their subjects."""

    title: str
    moral: str
    opening: Opening
    play: Callable[[Scene], None]
    wallet: str
    left: Mapping[str, str]
    mails: tuple[str, ...]


def play_first_source(scene: Scene) -> None:
    """The first source covers the amount."""
    scene.pays("45.00", leaving="35.00")
    top_up = scene.fires(at="35.00")
    all_of_it = Given("USDT", debited="100.00", worth="100.00")
    scene.ends(top_up, "completed: full", "100.00", all_of_it, Given("USDC", DrawStatus.NOT_REACHED))
    scene.rule_is("armed")


def play_waterfall(scene: Scene) -> None:
    """Each source gives all it has before the next gives anything, whatever its asset."""
    scene.page.scene(f"Quotes: {_quotes(scene.home)}.")
    scene.pays("40.00", leaving="40.00")
    scene.ends(
        scene.fires(at="40.00"),
        "completed: full",
        "150.00",
        Given("USDT", debited="60.00", worth="60.00"),
        Given("BTC", debited="0.001", worth="60.00"),
        Given("EUR", debited="27.28", worth="30.00"),
    )


def play_insufficient(scene: Scene) -> None:
    """The sources together hold too little, so not even the first one is drawn from."""
    scene.page.scene("Mary asks for a preview of what a drop would bring.")
    preview = scene.home.preview()
    foreseen = f"{preview['outcome']}: {preview['reason']}"
    scene.claim("preview", told="failed: insufficient_balance", seen=foreseen)
    scene.pays("45.00", leaving="35.00")
    untouched = [Given(asset, DrawStatus.NOT_REACHED) for asset in ("USDT", "USDC")]
    scene.ends(scene.fires(at="35.00"), "failed: insufficient_balance", "0.00", *untouched)
    scene.wallet_holds("35.00")
    scene.rule_is(_WAITING)
    scene.page.scene("Mary adds 65.00 USDT by hand, and the rule is ready for the next drop.")
    scene.home.add_by_hand("65.00")
    scene.stays_quiet(DecisionReason.NOT_BELOW, at="100.00")
    scene.rule_is("armed")


def play_partial(scene: Scene) -> None:
    """One source fails; its share is not taken from the other, and nothing is tried again."""
    scene.breaks("USDT", "reject")
    scene.pays("60.00", leaving="60.00")
    refused = Given("USDT", DrawStatus.FAILED, reason=DrawReason.REJECTED)
    top_up = scene.fires(at="60.00")
    scene.ends(
        top_up, "partial: source_failed", "30.00", refused, Given("USDC", debited="30.00", worth="30.00")
    )
    scene.rule_is(_WAITING)
    scene.pays("10.00", leaving="80.00")
    scene.stays_quiet(DecisionReason.DISARMED, at="80.00")
    scene.has_top_ups(1)


def play_lost_answers(scene: Scene) -> None:
    """No answer is not a no: each draw is looked up by its key, and counted as what it was."""
    scene.breaks("USDT", "answer_lost_after_moving")
    scene.breaks("USDC", "answer_lost_before_moving")
    scene.pays("45.00", leaving="35.00")
    moved = Given("USDT", debited="60.00", worth="60.00")
    not_moved = Given("USDC", DrawStatus.CONFIRMED_NOT_MOVED, reason=DrawReason.UNAVAILABLE)
    scene.ends(scene.fires(at="35.00"), "partial: not_confirmed", "60.00", moved, not_moved)
    scene.has_top_ups(1)


def play_locked(scene: Scene) -> None:
    """A running top-up locks its rule, and its end opens it."""
    home = scene.home
    scene.breaks("USDT", "hang")
    scene.pays("45.00", leaving="35.00")
    top_up_id = await_until(lambda: home.rule()["locked_by"], awaited="the rule to be locked")
    scene.page.scene("The top-up is under way. Vera tries to change, turn off and delete the rule.")
    refused = home.change_rule("PATCH", body={"amount": "60.00"})
    scene.refuses("edit", refused, locked_by=top_up_id)
    scene.refuses("off", home.change_rule("POST", "/disable"), locked_by=top_up_id)
    scene.refuses("delete", home.change_rule("DELETE"), locked_by=top_up_id)
    scene.page.scene(f"She is told: {refused.json()['detail'].replace(top_up_id, 'topup_...')}")
    scene.page.scene("The transfer is given up, looked up, and found not to have moved anything.")
    unknown = Given("USDT", DrawStatus.CONFIRMED_NOT_MOVED, reason=DrawReason.TIMED_OUT)
    scene.ends(scene.fires(at="35.00"), "failed: not_confirmed", "0.00", unknown)
    scene.page.scene("It has ended. Vera lowers the amount to 60.00 USDT; being below, it counts at once.")
    scene.accepts("edit", home.change_rule("PATCH", body={"amount": "60.00"}))
    again = Given("USDT", debited="60.00", worth="60.00")
    scene.ends(scene.fires(at="35.00", number=2), "completed: full", "60.00", again)


def play_off_on_delete(scene: Scene) -> None:
    """Off keeps everything and fires nothing, on fires at once, delete leaves the history."""
    home = scene.home
    scene.page.scene("Lise turns the rule off.")
    scene.accepts("off", home.change_rule("POST", "/disable"))
    scene.pays("45.00", leaving="35.00")
    scene.stays_quiet(DecisionReason.OFF, at="35.00")
    scene.has_top_ups(0)
    scene.page.scene(f"The banner in her wallet: {home.wallet()['alert']['message']}")
    scene.has_sent(1)
    scene.page.scene("She turns it on. The balance is below already, so it fires at once.")
    scene.accepts("on", home.change_rule("POST", "/enable"))
    all_of_it = Given("USDT", debited="100.00", worth="100.00")
    scene.ends(scene.fires(at="35.00"), "completed: full", "100.00", all_of_it)
    _delete(scene)


def play_hundred_payments(scene: Scene) -> None:
    """However many balance changes come at once, the rule fires once."""
    scene.page.scene(f"Emmy sends {PAYMENTS} payments of {usdt('2.00')}, all at once.")
    with ThreadPoolExecutor(PAYMENTS) as crowd:
        paid = list(crowd.map(lambda _: scene.home.pay("2.00"), range(PAYMENTS)))
    scene.claim("payments taken", told=str(PAYMENTS), seen=str(len(paid)))
    top_up = scene.fires(at="98.00")
    scene.ends(top_up, "completed: full", "200.00", Given("USDT", debited="200.00", worth="200.00"))
    # One decision for each payment, one for the rule's making and one for the money that came.
    judged = await_until(
        lambda: _judged(scene.home, at_least=PAYMENTS + 2), awaited="every payment to be judged"
    )
    tally = ", ".join(f"{count} {reason}" for reason, count in judged.most_common())
    scene.page.scene(f"Every change of the balance has its decision: {tally}.")
    scene.claim("times it fired", told="1", seen=str(judged[DecisionReason.BELOW_THRESHOLD]))
    scene.has_top_ups(1)


def _delete(scene: Scene) -> None:
    home = scene.home
    scene.page.scene("Lise deletes the rule. What it did stays readable.")
    scene.accepts("delete", home.change_rule("DELETE"), status=HTTPStatus.NO_CONTENT)
    gone = home.api.ask("GET", f"/v1/rules/{home.rule_id}")
    scene.claim("reading the rule", told="404", seen=str(gone.status_code))
    scene.has_top_ups(1)
    changes = [revision["change"] for revision in home.revisions()]
    scene.claim("its changes", told="created, disabled, enabled, deleted", seen=", ".join(changes))


def _judged(home: Household, *, at_least: int) -> Counter[str] | None:
    decisions = list(home.decisions())
    return Counter(each["reason"] for each in decisions) if len(decisions) >= at_least else None


def _quotes(home: Household) -> str:
    rates = home.api.get("/v1/ledger/rates")["data"]
    return ", ".join(
        f"1 {rate['asset']} = {rate['rate']} {CURRENCY}"
        for rate in rates
        if rate["asset"] in home.opening.holds and rate["currency"] == CURRENCY
    )


STORIES = (
    Story(
        title="A full top-up from the first source",
        moral="The first source covers the amount, so the second one is not touched.",
        opening=Opening("Ada", "80.00", "50.00", "100.00", {"USDT": "500.00", "USDC": "200.00"}),
        play=play_first_source,
        wallet="135.00",
        left={"USDT": "400.00", "USDC": "200.00"},
        mails=(_ARRIVED.format("100.00"),),
    ),
    Story(
        title="A waterfall over three sources",
        moral="Each source gives all it has before the next; other assets are valued at a quote.",
        opening=Opening(
            "Grace", "80.00", "50.00", "150.00", {"USDT": "60.00", "BTC": "0.001", "EUR": "100.00"}
        ),
        play=play_waterfall,
        wallet="190.00",
        left={"USDT": "0.00", "BTC": "0.00", "EUR": "72.72"},
        mails=(_ARRIVED.format("150.00"),),
    ),
    Story(
        title="Not enough in the sources",
        moral="The check comes before the first transfer: too little means that nothing moves.",
        opening=Opening("Mary", "80.00", "50.00", "100.00", {"USDT": "30.00", "USDC": "20.00"}),
        play=play_insufficient,
        wallet="100.00",
        left={"USDT": "30.00", "USDC": "20.00"},
        mails=(_FAILED.format("100.00"),),
    ),
    Story(
        title="One source fails",
        moral="Its share is not taken from another one, and nothing is tried a second time.",
        opening=Opening(
            "Joan", "120.00", "100.00", "100.00", {"USDT": "70.00", "USDC": "50.00"}, AccountKind.TRADING
        ),
        play=play_partial,
        wallet="80.00",
        left={"USDT": "70.00", "USDC": "20.00"},
        mails=(_SHORT.format("30.00", "100.00"),),
    ),
    Story(
        title="No answer, and no money moved twice",
        moral="A transfer without an answer is looked up by its key and counted as what it was.",
        opening=Opening("Rosa", "80.00", "50.00", "100.00", {"USDT": "60.00", "USDC": "500.00"}),
        play=play_lost_answers,
        wallet="95.00",
        left={"USDT": "0.00", "USDC": "500.00"},
        mails=(_SHORT.format("60.00", "100.00"),),
    ),
    Story(
        title="Locked while a top-up runs",
        moral="Nobody changes a rule under a running top-up; once it has ended, every change counts.",
        opening=Opening("Vera", "80.00", "50.00", "100.00", {"USDT": "500.00"}),
        play=play_locked,
        wallet="95.00",
        left={"USDT": "440.00"},
        mails=(_FAILED.format("100.00"), _ARRIVED.format("60.00")),
    ),
    Story(
        title="Off, on, deleted",
        moral="Off keeps the rule and fires nothing, on fires if need be, deleting keeps the history.",
        opening=Opening("Lise", "80.00", "50.00", "100.00", {"USDT": "500.00"}),
        play=play_off_on_delete,
        wallet="135.00",
        left={"USDT": "400.00"},
        mails=(_LOW.format("50.00"), _ARRIVED.format("100.00")),
    ),
    Story(
        title="A hundred payments at once",
        moral="One drop, one top-up, however many changes tell of it.",
        opening=Opening("Emmy", "250.00", "100.00", "200.00", {"USDT": "1000.00"}),
        play=play_hundred_payments,
        wallet="250.00",
        left={"USDT": "800.00"},
        mails=(_ARRIVED.format("200.00"),),
    ),
)
