"""The names of a top-up: what is asked twice under one name happens once (R10, R20, R21)."""

import pytest

from topup.keys import draw_key, telling_id, workflow_id


@pytest.mark.rule("R10")
class TestTheNamesOfATopUp:
    def test_are_the_same_each_time_they_are_asked_for(self) -> None:
        assert workflow_id("topup_1") == workflow_id("topup_1") == "top-up/topup_1"
        assert telling_id("topup_1", "ended") == telling_id("topup_1", "ended") != workflow_id("topup_1")

    def test_differ_for_each_kind_of_notice(self) -> None:
        assert telling_id("topup_1", "ended") != telling_id("topup_1", "being_checked")


@pytest.mark.rule("R20")
@pytest.mark.rule("R21")
class TestTheKeyOfADraw:
    def test_is_the_top_up_and_the_rank_of_the_source_and_nothing_else(self) -> None:
        assert draw_key("topup_1", 2) == "topup_1:2"

    def test_differs_for_each_source_and_each_top_up(self) -> None:
        keys = {draw_key(top_up, rank) for top_up in ("topup_1", "topup_2") for rank in (1, 2, 3)}

        assert len(keys) == 6
