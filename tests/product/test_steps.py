"""A top-up told step by step, at each point of its way."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.product.builders import at_par, drawn, terms, usdt
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Ending, Outcome, Reason, conclude, not_drawn
from topup.rule import AccountKind
from topup.steps import Seen, StepKind, StepState, Story, Told, ToldState, tell_steps
from topup.waterfall import Holding, Plan, Shortfall, plan_draws
from topup.words import Notice, next_step

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HUNDRED = terms(usdt(100), "USDT", "USDC", "USDG", threshold=usdt(50))


def undrawn(rank: int, asset: str) -> DrawResult:
    return not_drawn(rank, asset, currency="USDT")


def gave(rank: int, asset: str, amount: int) -> DrawResult:
    return replace(drawn(amount, rank=rank), asset=asset)


JUST_FIRED = Story(
    amount=usdt(100),
    threshold=usdt(50),
    account=AccountKind.FUNDING,
    trigger_balance=usdt(35),
    seen=None,
    draws=(undrawn(1, "USDT"), undrawn(2, "USDC"), undrawn(3, "USDG")),
    ending=None,
    told=(),
    started_at=NOON,
    ended_at=None,
)


def planned(*amounts: int) -> Seen:
    holdings = [
        Holding(Money.parse(str(amount), asset), at_par(asset))
        for amount, asset in zip(amounts, HUNDRED.sources, strict=True)
    ]
    found = plan_draws(HUNDRED, holdings)
    assert isinstance(found, Plan)
    return Seen(usdt(35), found)


def states(story: Story) -> list[str]:
    return [step.state.value for step in tell_steps(story)]


def lines(story: Story, kind: StepKind) -> list[tuple[str, ...]]:
    return [step.lines for step in tell_steps(story) if step.kind is kind]


def ended(story: Story, *draws: DrawResult, told: tuple[Told, ...] = ()) -> Story:
    ending = conclude(story.amount, draws)
    return replace(story, draws=draws, ending=ending, ended_at=NOON, told=told)


class TestTheStepsOfATopUpInProgress:
    def test_begin_with_why_it_fired(self) -> None:
        (line,) = tell_steps(JUST_FIRED)[0].lines

        assert "35.00 USDT" in line
        assert "threshold of 50.00 USDT" in line
        assert "100.00 USDT from the funding account" in line

    def test_have_the_check_under_way_first(self) -> None:
        assert states(JUST_FIRED) == ["done", "now", "ahead", "ahead", "ahead", "ahead", "ahead"]

    def test_have_the_first_source_with_a_share_under_way_after_the_check(self) -> None:
        story = replace(JUST_FIRED, seen=planned(0, 60, 50))

        assert states(story) == ["done", "done", "ahead", "now", "ahead", "ahead", "ahead"]
        assert lines(story, StepKind.DRAW) == [
            ("Is asked only if a source before it turns out to hold less.",),
            ("Is being asked for 60.00 USDT.",),
            ("Its share is 40.00 USDT.",),
        ]

    def test_go_on_to_the_next_source_when_one_has_answered(self) -> None:
        story = replace(JUST_FIRED, seen=planned(60, 60, 0))
        story = replace(story, draws=(gave(1, "USDT", 60), *story.draws[1:]))

        assert states(story)[2:5] == ["done", "now", "ahead"]
        assert lines(story, StepKind.DRAW)[0] == ("Gave 60.00 USDT.",)

    def test_pass_over_a_source_whose_refusal_is_not_written_down_yet(self) -> None:
        story = replace(JUST_FIRED, seen=planned(40, 40, 40))
        story = replace(story, draws=(undrawn(1, "USDT"), gave(2, "USDC", 40), undrawn(3, "USDG")))

        assert states(story)[2:5] == ["ahead", "done", "now"]

    @pytest.mark.rule("R21")
    def test_have_nothing_else_under_way_while_a_draw_is_being_checked(self) -> None:
        unknown = replace(undrawn(1, "USDT"), status=DrawStatus.BEING_CHECKED)
        story = replace(JUST_FIRED, seen=planned(60, 60, 0))
        story = replace(story, draws=(unknown, *story.draws[1:]))

        assert states(story)[2:5] == ["being_checked", "ahead", "ahead"]
        assert story.being_checked
        assert not story.over

    @pytest.mark.rule("R21")
    def test_name_those_who_were_told_that_it_is_being_checked(self) -> None:
        told = Told(Notice.BEING_CHECKED, "email", ToldState.SENT, attempts=1)
        story = replace(JUST_FIRED, told=(told,))

        assert lines(story, StepKind.TOLD)[0][0] == "By email, that it was being checked: sent."


class TestTheStepsOfATopUpThatEnded:
    def test_are_all_done_when_it_is_complete(self) -> None:
        sent = tuple(Told(Notice.ENDED, channel, ToldState.SENT, 1) for channel in ("push", "email"))
        draws = (gave(1, "USDT", 60), gave(2, "USDC", 40), undrawn(3, "USDG"))
        story = ended(replace(JUST_FIRED, seen=planned(60, 60, 0)), *draws, told=sent)

        assert states(story) == ["done", "done", "done", "done", "skipped", "done", "done"]
        assert story.over

    @pytest.mark.rule("R18")
    def test_explain_what_did_not_arrive(self) -> None:
        refused = replace(undrawn(2, "USDC"), status=DrawStatus.FAILED, reason=DrawReason.REJECTED)
        story = ended(
            replace(JUST_FIRED, seen=planned(60, 60, 0)), gave(1, "USDT", 60), refused, undrawn(3, "USDG")
        )

        assert states(story)[3:6] == ["failed", "skipped", "partial"]
        assert lines(story, StepKind.SETTLED)[0][-1] == (
            "40.00 USDT did not arrive, because USDC gave nothing, as the exchange refused the transfer."
        )

    @pytest.mark.rule("R15")
    def test_say_what_the_sources_lacked(self) -> None:
        seen = Seen(usdt(35), Shortfall(available=usdt(30), missing=usdt(70)))
        story = ended(replace(JUST_FIRED, seen=seen), *JUST_FIRED.draws)

        assert states(story)[1] == "failed"
        assert "30.00 USDT together, 70.00 USDT too little" in lines(story, StepKind.CHECK)[0][0]

    @pytest.mark.rule("R14")
    def test_say_that_it_was_not_needed_and_that_nobody_is_told(self) -> None:
        ending = Ending(Outcome.NOT_NEEDED, Reason.BALANCE_RECOVERED, usdt(0))
        story = replace(JUST_FIRED, seen=Seen(usdt(90), None), ending=ending, ended_at=NOON)

        assert states(story) == ["done", "done", "skipped", "skipped", "skipped", "done", "skipped"]
        assert "90.00 USDT by then" in lines(story, StepKind.CHECK)[0][0]
        assert story.over

    def test_say_that_the_check_did_not_come_to_an_end(self) -> None:
        ending = Ending(Outcome.FAILED, Reason.SYSTEM_ERROR, usdt(0))
        story = replace(JUST_FIRED, ending=ending, ended_at=NOON)

        assert states(story)[1] == "failed"
        assert "nothing was moved" in lines(story, StepKind.CHECK)[0][0]

    def test_leave_what_to_do_next_to_the_page(self) -> None:
        story = ended(JUST_FIRED, *JUST_FIRED.draws)

        assert next_step(Outcome.FAILED) not in lines(story, StepKind.SETTLED)[0]

    @pytest.mark.rule("R24")
    @pytest.mark.parametrize(
        ("state", "attempts", "shown", "words"),
        [
            (ToldState.PENDING, 0, StepState.NOW, "on its way"),
            (ToldState.PENDING, 3, StepState.NOW, "tried again by itself"),
            (ToldState.UNDELIVERABLE, 9, StepState.FAILED, "could not be delivered"),
        ],
    )
    def test_say_what_became_of_the_notifications(
        self, state: ToldState, attempts: int, shown: StepState, words: str
    ) -> None:
        told = (Told(Notice.ENDED, "push", ToldState.SENT, 1), Told(Notice.ENDED, "email", state, attempts))
        story = ended(JUST_FIRED, *JUST_FIRED.draws, told=told)
        last = tell_steps(story)[-1]

        assert (last.kind, last.state) == (StepKind.TOLD, shown)
        assert words in last.lines[1]
        assert story.over == (state is not ToldState.PENDING)
