"""The mail itself: headers that nobody can bend, HTML that nobody can inject into, words that say enough."""

from dataclasses import replace
from email.message import EmailMessage

import pytest

from activities.ports import Letter
from adapters.notify.mail import compose, mail_templates, read_sender

TEMPLATES = mail_templates()
SENDER = read_sender("Tidemark <tidemark@pay.example>")


def written(letter: Letter) -> EmailMessage:
    return compose(letter, sender=SENDER, templates=TEMPLATES)


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

    def test_loads_nothing_and_links_nowhere(self, letter: Letter) -> None:
        page = part(written(letter), "html")
        assert not any(sign in page for sign in ("http", "<a ", "<img", "url("))

    def test_leaves_out_what_there_is_not(self, letter: Letter) -> None:
        mail = written(replace(letter, lines=(), next_step=None, to_name=""))
        for kind in ("plain", "html"):
            body = part(mail, kind)
            assert "Hello," in body
            assert "funding sources, in the order" not in body
            assert "What to do next" not in body


class TestText:
    def test_says_all_of_it_in_lines_a_terminal_can_hold(self, letter: Letter) -> None:
        text = part(written(letter), "plain")
        assert max(len(line) for line in text.splitlines()) <= 78
        assert "  2. USDC: gave nothing, because the exchange refused the transfer." in text
        assert letter.top_up_id in text

    def test_is_not_escaped(self, letter: Letter) -> None:
        assert "Hello O'Neil & Co," in part(written(replace(letter, to_name="O'Neil & Co")), "plain")
