"""Getting in with a real browser: by a link, with a passkey, with a second one, and with a recovery code."""

from playwright.async_api import expect

from adapters.postgres.database import Database
from tests.builders import open_household
from tests.console.browser import PHONE, OpenWindow, Window, assert_accessible, assert_fits
from tests.console.visits import link_for


async def assert_good(window: Window) -> None:
    await assert_accessible(window.page)
    await assert_fits(window.page)


async def sign_out(window: Window) -> None:
    await window.page.get_by_role("banner").get_by_role("button", name="Sign out").click()
    await expect(window.page.get_by_text("You are signed out.")).to_be_visible()


class TestAnOwner:
    async def test_joins_by_link_signs_in_again_and_adds_a_second_passkey(
        self, phone: Window, database: Database
    ) -> None:
        home = await open_household(database)
        page = phone.page
        first = await phone.add_authenticator()

        await phone.go(await link_for(database, owner_id=home.owner_id))
        await page.get_by_label("Name of this passkey").fill("My phone")
        await page.get_by_role("button", name="Make a passkey").click()
        await expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
        assert await page.locator(".codes li").count() == 10
        await assert_good(phone)
        await page.get_by_role("link", name="I have kept them").click()
        await page.wait_for_url(f"**/wallets/{home.wallet_id}")

        await sign_out(phone)
        await phone.go("/account")
        await page.get_by_role("button", name="Sign in with a passkey").click()
        await page.wait_for_url("**/account")
        await expect(page.get_by_text("You have one passkey only")).to_be_visible()

        await page.get_by_role("button", name="Add a passkey").click()
        await expect(page.get_by_role("heading", name="Make another passkey")).to_be_visible()
        await assert_good(phone)
        await page.get_by_role("button", name="Make the new passkey").click()
        await expect(page.get_by_role("alert")).to_contain_text("holds a passkey of yours already")
        second = await phone.add_authenticator(transport="usb")
        await page.get_by_label("Name of the new passkey").fill("Key on my ring")
        await page.get_by_role("button", name="Make the new passkey").click()

        await expect(page.get_by_text("Your new passkey is ready.")).to_be_visible()
        await expect(page.get_by_text("Key on my ring", exact=True)).to_be_visible()
        await expect(page.get_by_text("You have one passkey only")).to_have_count(0)
        assert [len(await held.passkeys()) for held in (first, second)] == [1, 1]

    async def test_gets_in_again_with_a_recovery_code_on_a_new_phone(
        self, open_window: OpenWindow, database: Database
    ) -> None:
        old, new = await open_window(PHONE), await open_window(PHONE)
        await old.add_authenticator()
        await old.go(await link_for(database))
        await old.page.get_by_role("button", name="Make a passkey").click()
        code = await old.page.locator(".codes code").first.inner_text()
        await new.add_authenticator()

        await new.go("/sign-in")
        await new.page.get_by_role("link", name="Use a recovery code").click()
        await new.page.get_by_label("Recovery code").fill(code.lower().replace("-", " "))
        await new.page.get_by_role("button", name="Go on").click()
        await expect(new.page.get_by_role("heading", name="Make a new passkey")).to_be_visible()
        await assert_good(new)
        await new.page.get_by_role("button", name="Make a passkey").click()

        await expect(new.page.get_by_text("Your new passkey is ready.")).to_be_visible()
        await expect(new.page.get_by_text("You have 9 recovery codes left.")).to_be_visible()


class TestABrowser:
    async def test_that_knows_no_passkeys_is_told_what_to_do(self, phone: Window) -> None:
        await phone.page.add_init_script("delete globalThis.PublicKeyCredential")
        await phone.go("/sign-in")
        await phone.page.get_by_role("button", name="Sign in with a passkey").click()

        await expect(phone.page.get_by_role("alert")).to_contain_text("Open this page in a newer one")

    async def test_whose_person_is_not_recognized_says_so_and_can_try_again(
        self, phone: Window, database: Database
    ) -> None:
        holder = await phone.add_authenticator()
        await phone.go(await link_for(database))
        await holder.verify_user(verified=False)
        await phone.page.get_by_role("button", name="Make a passkey").click()
        await expect(phone.page.get_by_role("alert")).to_contain_text("Try again when you are ready")
        await holder.verify_user(verified=True)
        await phone.page.get_by_role("button", name="Make a passkey").click()

        await expect(phone.page.get_by_role("heading", name="Your recovery codes")).to_be_visible()

    async def test_whose_passkey_answers_wrongly_is_told_in_words(
        self, phone: Window, database: Database
    ) -> None:
        holder = await phone.add_authenticator()
        await phone.go(await link_for(database))
        await phone.page.get_by_role("button", name="Make a passkey").click()
        await phone.page.get_by_role("link", name="I have kept them").click()
        await sign_out(phone)
        await holder.spoil_answers(bogus_signature=True)
        phone.expect_trouble("403")
        await phone.page.get_by_role("button", name="Sign in with a passkey").click()
        await expect(phone.page.get_by_role("alert").first).to_contain_text("does not fit what was asked")
        await holder.spoil_answers(bad_verification=True)
        await phone.page.get_by_role("button", name="Sign in with a passkey").click()

        await expect(phone.page.get_by_role("alert").first).to_contain_text("did not check that it is you")

    async def test_without_scripts_is_told_that_passkeys_need_them(self, open_window: OpenWindow) -> None:
        window = await open_window(PHONE, javascript=False)
        answer = await window.go("/sign-in")
        assert "<noscript>" in await answer.text()
        window.expect_trouble("403")
        await window.page.get_by_role("button", name="Sign in with a passkey").click()

        await expect(window.page.get_by_role("alert").first).to_contain_text("Allow JavaScript for this page")

    async def test_that_came_by_number_is_led_to_the_name(self, phone: Window) -> None:
        port = phone.origin.rpartition(":")[2]
        await phone.page.goto(f"http://127.0.0.1:{port}/sign-in?next=%2Faccount")

        assert phone.page.url == f"{phone.origin}/sign-in?next=%2Faccount"
