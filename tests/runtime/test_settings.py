"""Settings are read from the environment, and a bad one is told in a sentence that names its variable."""

import os
from datetime import timedelta

import pytest

from runtime.settings import (
    DevelopmentSettings,
    Settings,
    SettingsInvalid,
    read_development_settings,
    read_settings,
)

DATABASE = "postgresql://tidemark:hunter2@db.example.com/tidemark?sslmode=verify-full"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIDEMARK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIDEMARK_DATABASE_URL", DATABASE)


class TestReadingSettings:
    def test_needs_nothing_but_a_database(self) -> None:
        settings = read_settings()

        assert settings.environment == "production"
        assert settings.database_url == DATABASE
        assert settings.draw_timeout == timedelta(seconds=30)

    @pytest.mark.parametrize(
        ("text", "duration"),
        [
            ("500ms", timedelta(milliseconds=500)),
            ("2", timedelta(seconds=2)),
            ("1.5s", timedelta(seconds=1.5)),
            ("5m", timedelta(minutes=5)),
            ("24h", timedelta(hours=24)),
            ("1d", timedelta(days=1)),
            ("PT30S", timedelta(seconds=30)),
        ],
    )
    def test_takes_durations_as_people_write_them(
        self, monkeypatch: pytest.MonkeyPatch, text: str, duration: timedelta
    ) -> None:
        monkeypatch.setenv("TIDEMARK_DRAW_TIMEOUT", text)

        assert read_settings().draw_timeout == duration

    def test_takes_an_empty_variable_for_one_that_is_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMARK_SMTP_USERNAME", "")

        assert read_settings().smtp_username is None

    def test_cannot_be_changed_afterwards(self) -> None:
        settings = read_settings()

        with pytest.raises(ValueError, match="frozen"):
            settings.api_port = 1

    def test_does_not_show_the_database_password_when_printed(self) -> None:
        assert "hunter2" not in repr(read_settings())

    def test_gives_each_development_server_a_port(self) -> None:
        settings = read_development_settings()

        assert (settings.api_port, settings.temporal_port, settings.temporal_ui_port) == (8080, 7233, 8233)
        assert (settings.inbox_port, settings.smtp_port) == (8025, 1025)


class TestRefusingSettings:
    @pytest.mark.parametrize(
        ("name", "value", "sentence"),
        [
            ("API_PORT", "abc", "TIDEMARK_API_PORT is 'abc', but it must be a valid integer."),
            (
                "API_PORT",
                "70000",
                "TIDEMARK_API_PORT is '70000', but it must be less than or equal to 65535.",
            ),
            (
                "DRAW_TIMEOUT",
                "soon",
                "TIDEMARK_DRAW_TIMEOUT is 'soon', but it must be a duration such as 500ms, 30s, 5m or 24h.",
            ),
            ("POLL_INTERVAL", "0", "TIDEMARK_POLL_INTERVAL is '0', but it must be longer than nothing."),
            ("ENVIRONMENT", "staging", "TIDEMARK_ENVIRONMENT is 'staging', but it must be 'production' or"),
            (
                "PUBLIC_URL",
                "example.com",
                "TIDEMARK_PUBLIC_URL is 'example.com', but it must be a web address",
            ),
            ("MAIL_FROM", "bob", "TIDEMARK_MAIL_FROM is 'bob', but it must be an e-mail address"),
            ("METRICS_BIND", "9464", "TIDEMARK_METRICS_BIND is '9464', but it must be host:port"),
            (
                "RATE_LIMIT",
                "many",
                "TIDEMARK_RATE_LIMIT is 'many', but it must be a number of requests in a time",
            ),
            (
                "TRUSTED_PROXIES",
                "proxy",
                "TIDEMARK_TRUSTED_PROXIES is 'proxy', but it must be addresses or networks",
            ),
            ("CORS_ORIGINS", "*", "TIDEMARK_CORS_ORIGINS is '*', but it must be origins such as"),
            (
                "CORS_ORIGINS",
                "https://a.example/",
                "TIDEMARK_CORS_ORIGINS is 'https://a.example/', but it must be",
            ),
            ("PUSH_HOSTS", "*", "TIDEMARK_PUSH_HOSTS is '*', but it must be host names such as"),
        ],
    )
    def test_names_the_variable_and_what_it_must_be(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
    ) -> None:
        monkeypatch.setenv(f"TIDEMARK_{name}", value)

        with pytest.raises(SettingsInvalid) as refused:
            read_settings()

        assert str(refused.value).startswith(sentence)

    def test_says_that_the_database_must_be_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TIDEMARK_DATABASE_URL")

        with pytest.raises(
            SettingsInvalid, match=r"^TIDEMARK_DATABASE_URL must be set: the PostgreSQL database"
        ):
            read_settings()

    def test_never_repeats_a_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMARK_DATABASE_URL", "mysql://tidemark:hunter2@db")

        with pytest.raises(SettingsInvalid, match=r"^TIDEMARK_DATABASE_URL cannot be used") as refused:
            read_settings()

        assert "hunter2" not in str(refused.value)

    def test_tells_each_of_two_problems_in_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMARK_API_PORT", "abc")
        monkeypatch.setenv("TIDEMARK_POLL_INTERVAL", "soon")

        with pytest.raises(SettingsInvalid) as refused:
            read_settings()

        assert len(str(refused.value).splitlines()) == 2

    def test_keeps_the_push_inbox_out_of_production(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMARK_PUSH_INBOX_URL", "http://127.0.0.1:8025")

        with pytest.raises(SettingsInvalid, match="TIDEMARK_PUSH_INBOX_URL is for development only"):
            read_settings()

        monkeypatch.setenv("TIDEMARK_ENVIRONMENT", "development")
        assert read_settings().push_inbox_url == "http://127.0.0.1:8025"

    def test_keeps_the_stop_points_out_of_production(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMARK_STOP_POINTS", "/tmp/points")  # noqa: S108 - it is never opened

        with pytest.raises(SettingsInvalid, match="TIDEMARK_STOP_POINTS is for development only"):
            read_settings()

        monkeypatch.setenv("TIDEMARK_ENVIRONMENT", "development")
        assert str(read_settings().stop_points) == "/tmp/points"  # noqa: S108

    def test_sends_no_mail_password_over_an_open_line_in_production(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TIDEMARK_SMTP_PASSWORD", "hunter2")
        monkeypatch.setenv("TIDEMARK_SMTP_SECURITY", "none")

        with pytest.raises(SettingsInvalid, match="TIDEMARK_SMTP_PASSWORD would travel readably"):
            read_settings()


class TestExplainingSettings:
    @pytest.mark.parametrize("kind", [Settings, DevelopmentSettings])
    def test_describes_every_field_in_a_sentence(
        self, kind: type[Settings] | type[DevelopmentSettings]
    ) -> None:
        for name, field in kind.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name
