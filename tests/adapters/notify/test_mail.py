"""The mail itself: headers that nobody can bend, HTML that nobody can inject into, words that say enough."""

import re
from dataclasses import replace
from email.message import EmailMessage

import pytest

from activities.ports import Letter
from adapters.notify.mail import compose, contact_of, mail_templates, read_sender

TEMPLATES = mail_templates()
SENDER = read_sender("Tidemark <tidemark@pay.example>")
PAGES = "https://pay.example"


def written(letter: Letter) -> EmailMessage:
    return compose(letter, sender=SENDER, public_url=PAGES, templates=TEMPLATES)


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


class TestHeaders:
    @pytest.mark.parametrize(
        "name", ["Ada\r\nBcc: eve@example.com", "Ada\nBcc: eve@example.com", "Ada\u2028\u0085\x00Bcc"]
    )
    def test_cannot_be_added_to_through_a_name(self, letter: Letter, name: str) -> None:
        mail = written(replace(letter, to_name=name, subject=f"Hello {name}"))
        assert sorted({key for key in mail if key.lower() in ("bcc", "cc")}) == []
        assert [address.addr_spec for address in mail["To"].addresses] == ["ada@example.com"]
        head = mail.as_bytes().split(b"\n\n", 1)[0]
        assert b"\nBcc" not in head

    def test_turn_no_letters_around_through_a_direction_mark(self, letter: Letter) -> None:
        assert (
            written(replace(letter, to_name="Ada\u202eecalevoL"))["To"].addresses[0].display_name
            == "Ada ecalevoL"
        )

    def test_keep_names_of_any_script(self, letter: Letter) -> None:
        assert written(replace(letter, to_name="Žofie Ω 北"))["To"].addresses[0].display_name == "Žofie Ω 北"

    def test_spell_a_domain_of_any_script_as_the_mail_system_does(self, letter: Letter) -> None:
        address = written(replace(letter, to_address="ada@bücher.example"))["To"].addresses[0]
        assert address.addr_spec == "ada@xn--bcher-kva.example"


class TestPage:
    def test_shows_markup_in_a_name_as_letters(self, letter: Letter) -> None:
        page = part(written(replace(letter, to_name="<script>alert(1)</script>")), "html")
        assert "<script" not in page
        assert "&lt;script&gt;" in page

    def test_loads_nothing(self, letter: Letter) -> None:
        page = part(written(letter), "html")
        assert not any(sign in page for sign in ("<img", "<link", "<script", "url(", "src="))

    def test_leads_to_pages_that_ask_for_a_sign_in_and_does_nothing_by_itself(self, letter: Letter) -> None:
        links = set(re.findall(r'href="([^"]*)"', part(written(letter), "html")))
        assert links == {
            f"{PAGES}/top-ups/topup_01",
            f"{PAGES}/wallets/wallet_01/auto-top-up",
            f"{PAGES}/push",
        }

    def test_shows_the_amounts_and_each_sources_result_in_rows(self, letter: Letter) -> None:
        page = part(written(letter), "html")
        for words in (
            "Did not arrive",
            "20.00 USDT",
            "2. USDC",
            "the exchange refused the transfer",
            "30.00 USDT",
        ):
            assert words in page

    def test_begins_with_the_reason_where_mail_programs_preview_it(self, letter: Letter) -> None:
        page = part(written(letter), "html")
        assert page.index(letter.brief) < page.index("<h1")

    def test_is_at_most_600_wide_for_people_in_both_themes(self, letter: Letter) -> None:
        page = part(written(letter), "html")
        assert "max-width:600px" in page
        assert "prefers-color-scheme: dark" in page

    def test_leaves_out_what_there_is_not(self, letter: Letter) -> None:
        mail = written(replace(letter, lines=(), draws=(), sums=(), next_step=None, to_name=""))
        for kind in ("plain", "html"):
            body = part(mail, kind)
            assert "Hello," in body
            assert "funding sources, in the order" not in body
            assert "What to do next" not in body


@pytest.mark.rule("R23")
class TestUnsubscribing:
    def test_is_not_offered_for_what_an_owner_must_be_told(self, letter: Letter) -> None:
        mail = written(letter)
        assert mail["List-Unsubscribe"] is None
        assert "unsubscribe" not in mail.as_string()

    def test_is_offered_for_a_low_balance_in_one_click(self, letter: Letter) -> None:
        low = replace(
            letter, kind="low_balance", outcome=None, stop_token="token-01", page="/wallets/wallet_01"
        )
        mail = written(low)
        assert mail["List-Unsubscribe"] == f"<{PAGES}/unsubscribe/token-01>"
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        for kind in ("plain", "html"):
            assert f"{PAGES}/unsubscribe/token-01" in part(mail, kind)


class TestWhoPushServicesTurnTo:
    def test_is_the_sender_of_the_mails(self) -> None:
        assert (
            contact_of("Tidemark <t@pay.example>", public_url="https://x.example") == "mailto:t@pay.example"
        )

    def test_is_the_pages_host_where_the_sender_is_nobody(self) -> None:
        assert contact_of("t@localhost", public_url="https://x.example:8443/a") == "https://x.example"

    def test_is_the_sender_all_the_same_where_there_is_nothing_better(self) -> None:
        assert contact_of("t@localhost", public_url="http://localhost:8080") == "mailto:t@localhost"


class TestText:
    def test_says_all_of_it_in_lines_a_terminal_can_hold(self, letter: Letter) -> None:
        text = part(written(letter), "plain")
        assert max(len(line) for line in text.splitlines()) <= 78
        assert "  2. USDC: gave nothing, because the exchange refused the transfer." in text
        assert letter.about in text

    def test_is_not_escaped(self, letter: Letter) -> None:
        assert "Hello O'Neil & Co," in part(written(replace(letter, to_name="O'Neil & Co")), "plain")
