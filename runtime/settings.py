"""The settings of every Tidemark program, read from the environment and explained field by field."""

import re
from datetime import timedelta
from email.utils import parseaddr
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from limits import parse
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.payload_keys import PayloadKeys

PREFIX = "TIDEMARK_"

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_HOST = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+")
_SECRETS = frozenset({"database_url", "migration_database_url", "payload_keys", "smtp_password"})
_SHORTENED_AT = 60
_HERE = re.compile(r"|/.*|localhost|127(\.\d+){3}|\[?::1\]?")
_DECIDED = frozenset({"disable", "require", "verify-ca", "verify-full"})

_Kind = TypeVar("_Kind", bound=BaseSettings)


class SettingsInvalid(ValueError):
    """A setting is missing or cannot be used; the message is one sentence for each, naming the variable."""


def _read_duration(value: object) -> object:
    """Accept `30`, `30s`, `500ms`, `1m`, `24h` and `1d`; leave ISO 8601 (`PT30S`) to pydantic."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return value
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


def _refuse_not_positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        msg = "must be longer than nothing"
        raise ValueError(msg)
    return value


def _check_database_url(value: str) -> str:
    if not re.match(r"postgres(ql)?://", value):
        msg = "must be a PostgreSQL address such as postgresql://user@host:5432/tidemark"
        raise ValueError(msg)
    return re.sub(r"^postgres://", "postgresql://", value)


def _is_decided(database_url: str) -> bool:
    """Whether the database is on this machine, or the address says how the connection is protected."""
    parts = urlsplit(database_url)
    asked = parse_qs(parts.query)
    hosts = [host for named in asked.get("host", []) for host in named.split(",")]
    hosts += [host.rpartition(":")[0] or host for host in parts.netloc.rpartition("@")[2].split(",")]
    local = all(_HERE.fullmatch(host) for host in [*hosts, *asked.get("hostaddr", [])])
    return local or bool(_DECIDED.intersection(asked.get("sslmode", [])))


def _check_web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "must be a web address starting with http:// or https://"
        raise ValueError(msg)
    return value.rstrip("/")


def _check_mail_from(value: str) -> str:
    if not _ADDRESS.fullmatch(parseaddr(value)[1]):
        msg = "must be an e-mail address, with or without a name: Tidemark <tidemark@example.com>"
        raise ValueError(msg)
    return value


def _check_bind(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal():
        msg = "must be host:port, such as 127.0.0.1:9464"
        raise ValueError(msg)
    return value


def _check_quota(value: str) -> str:
    try:
        parse(value)
    except ValueError:
        msg = "must be a number of requests in a time, such as 600/minute or 20 per 10 seconds"
        raise ValueError(msg) from None
    return value


def _check_proxies(value: str) -> str:
    for part in _parts(value):
        try:
            ip_network(part)
        except ValueError:
            msg = "must be addresses or networks such as 10.0.0.0/8, with commas between"
            raise ValueError(msg) from None
    return ",".join(_parts(value))


def _check_origins(value: str) -> str:
    for part in _parts(value):
        parts = urlsplit(part)
        if (
            parts.scheme not in {"http", "https"}
            or part != f"{parts.scheme}://{parts.netloc}"
            or not parts.hostname
        ):
            msg = "must be origins such as https://app.example, without a path, with commas between"
            raise ValueError(msg)
    return ",".join(_parts(value))


def _check_hosts(value: str) -> str:
    if not all(_HOST.fullmatch(part) for part in _parts(value)):
        msg = "must be host names such as push.example.com or *.example.com, with commas between"
        raise ValueError(msg)
    return ",".join(_parts(value))


def _check_payload_keys(value: SecretStr) -> SecretStr:
    PayloadKeys.read(value.get_secret_value())
    return value


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


Duration = Annotated[timedelta, BeforeValidator(_read_duration), AfterValidator(_refuse_not_positive)]
Port = Annotated[int, Field(ge=0, le=65535)]
Quota = Annotated[str, AfterValidator(_check_quota)]
DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]
WebAddress = Annotated[str, AfterValidator(_check_web_address)]

_CONFIG = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")


class Settings(BaseSettings):
    """What the worker, the watcher, the API and the migrations need; Temporal's own are TEMPORAL_*."""

    model_config = _CONFIG

    environment: Literal["production", "development"] = Field(
        default="production",
        description="Development allows what production refuses: fault switches and the push inbox.",
    )
    database_url: DatabaseUrl = Field(
        repr=False,
        description="The PostgreSQL database, as postgresql://user:password@host:5432/name or a socket address.",
    )
    migration_database_url: DatabaseUrl | None = Field(
        default=None,
        repr=False,
        description="The same database as the owner of its tables, for the upgrade alone; unset is the one above.",
    )
    database_pool_size: int = Field(
        default=10, ge=1, le=500, description="Most database connections one program keeps open."
    )
    task_queue: str = Field(
        default="tidemark",
        min_length=1,
        max_length=200,
        description="Temporal's task queue, the same for worker, watcher and API; messages have their own, "
        "named `-email` and `-push` after it.",
    )
    draw_timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="How long one draw may take before its outcome counts as unknown and is looked up.",
    )
    check_timeout: Duration = Field(
        default=timedelta(seconds=30), description="How long the look at wallet and sources may take."
    )
    poll_interval: Duration = Field(
        default=timedelta(seconds=1),
        description="How often the watcher looks for balance events when nothing wakes it.",
    )
    sweep_interval: Duration = Field(
        default=timedelta(seconds=60), description="How often top-ups whose run is gone are looked for."
    )
    sweep_grace: Duration = Field(
        default=timedelta(seconds=30), description="How old a top-up must be before the sweep looks at it."
    )
    notify_patience: Duration = Field(
        default=timedelta(seconds=30),
        description="How long a top-up's own run tries to deliver its notifications; another run goes on.",
    )
    notify_give_up_after: Duration = Field(
        default=timedelta(hours=24), description="How long an undelivered notification is tried again."
    )
    events_kept_for: Duration = Field(
        default=timedelta(days=30),
        description="How long public events, and what became of their webhooks, are kept.",
    )
    streams_per_key: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="How many streams of events one API key may have open, at each API program.",
    )
    stream_lifetime: Duration = Field(
        default=timedelta(hours=1),
        description="How long one stream of events lasts before its reader has to go on with another.",
    )
    webhook_give_up_after: Duration = Field(
        default=timedelta(days=3), description="How long a webhook that was not taken is tried again."
    )
    webhook_switch_off_after: Duration = Field(
        default=timedelta(days=5),
        description="How long a webhook endpoint may only fail before it is turned off.",
    )
    webhooks_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may go to private addresses, any port, and plain http; pushes to such addresses.",
    )
    api_host: str = Field(
        default="127.0.0.1", min_length=1, description="The address the API listens on; 0.0.0.0 for all."
    )
    api_port: Port = Field(default=8080, description="The port the API listens on.")
    rate_limit: Quota = Field(
        default="600/minute", description="How many requests one API key may make, at each API program."
    )
    rate_limit_unauthenticated: Quota = Field(
        default="120/minute",
        description="How many requests without a valid key one address may make, at each API program.",
    )
    trusted_proxies: Annotated[str, AfterValidator(_check_proxies)] = Field(
        default="127.0.0.1",
        description="The proxies whose X-Forwarded-For names the caller's address, with commas between.",
    )
    cors_origins: Annotated[str, AfterValidator(_check_origins)] | None = Field(
        default=None,
        description="The origins whose pages may call the API from a browser, with commas between; unset is none.",
    )
    metrics_open: bool = Field(
        default=False, description="Whether /metrics needs no key; where it does, it needs `admin`."
    )
    push_hosts: Annotated[str, AfterValidator(_check_hosts)] = Field(
        default="fcm.googleapis.com,*.push.services.mozilla.com,*.push.apple.com,*.notify.windows.com",
        description="The push services a browser's subscription may name, with commas between.",
    )
    public_url: WebAddress = Field(
        default="http://localhost:8080",
        description="The address under which owners reach the pages; their passkeys are bound to its host.",
    )
    temporal_ui_url: WebAddress | None = Field(
        default=None, description="The address of Temporal's Web UI, to link a top-up to its run."
    )
    smtp_host: str = Field(
        default="localhost", min_length=1, description="The mail server that takes e-mails."
    )
    smtp_port: Port = Field(default=587, description="The port of the mail server.")
    smtp_username: str | None = Field(
        default=None, description="The user name at the mail server, if it asks."
    )
    smtp_password: SecretStr | None = Field(default=None, description="The password at the mail server.")
    smtp_security: Literal["none", "starttls", "tls"] = Field(
        default="starttls", description="How the connection to the mail server is protected."
    )
    mail_from: Annotated[str, AfterValidator(_check_mail_from)] = Field(
        default="Tidemark <tidemark@localhost>", description="The sender of the e-mails."
    )
    push_inbox_url: WebAddress | None = Field(
        default=None,
        description="Development only: the inbox that takes push notifications in place of a browser.",
    )
    payload_keys: Annotated[SecretStr, AfterValidator(_check_payload_keys)] | None = Field(
        default=None,
        description="The keys that encrypt what Temporal keeps, as id:base64 with commas between; the first writes.",
    )
    stop_points: Path | None = Field(
        default=None,
        description="Development only: the socket at which programs say how far they are, and stand until let go.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or lines for people."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe log lines that are written."
    )
    worker_build_id: str = Field(
        default="unreleased",
        min_length=1,
        max_length=200,
        description="The version of the code that a worker reports to Temporal.",
    )
    metrics_bind: Annotated[str, AfterValidator(_check_bind)] | None = Field(
        default=None, description="Where a program shows its Temporal metrics, as host:port; unset is off."
    )

    @model_validator(mode="after")
    def _refuse_development_only(self) -> Self:
        for field in ("push_inbox_url", "stop_points"):
            if self.environment == "production" and getattr(self, field) is not None:
                msg = (
                    f"{variable(field)} is for development only: "
                    f"unset it, or set {PREFIX}ENVIRONMENT to development."
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _refuse_database_by_chance(self) -> Self:
        """Without a word about TLS, PostgreSQL's library falls back to an open connection silently."""
        for field in ("database_url", "migration_database_url"):
            address = getattr(self, field, None)
            if self.environment == "production" and address and not _is_decided(address):
                msg = (
                    f"{variable(field)} names another machine and does not say how the way there is protected: "
                    "add sslmode=verify-full (and sslrootcert), or sslmode=disable where the network itself is trusted."
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _refuse_open_password(self) -> Self:
        if self.environment == "production" and self.smtp_password and self.smtp_security == "none":
            msg = (
                f"{PREFIX}SMTP_PASSWORD would travel readably: "
                f"set {PREFIX}SMTP_SECURITY to starttls or tls, or unset the password."
            )
            raise ValueError(msg)
        return self


class DevelopmentSettings(BaseSettings):
    """What `make run` and `make demo` need: where state is kept, and which ports are used."""

    model_config = _CONFIG

    home: Path = Field(
        default=Path(".tidemark"), description="The folder that keeps the state of a development run."
    )
    api_port: Port = Field(default=8080, description="The port of the API; 0 takes any free port.")
    temporal_port: Port = Field(default=7233, description="The port of Temporal; 0 takes any free port.")
    temporal_ui_port: Port = Field(
        default=8233, description="The port of Temporal's Web UI; 0 takes any free port."
    )
    inbox_port: Port = Field(default=8025, description="The port of the inbox page; 0 takes any free port.")
    smtp_port: Port = Field(
        default=1025, description="The port on which the inbox takes mail; 0 takes any free port."
    )
    inbox_host: str = Field(
        default="127.0.0.1", min_length=1, description="The address the inbox and its mail server listen on."
    )
    temporal_program: Path | None = Field(
        default=None, description="The temporal program to use; unset looks on the PATH, then fetches it."
    )
    database_url: DatabaseUrl | None = Field(
        default=None,
        repr=False,
        description="A PostgreSQL database to use; unset starts an embedded server in the home folder.",
    )
    migration_database_url: DatabaseUrl | None = Field(
        default=None,
        repr=False,
        description="The same database as the owner of its tables, for the upgrade alone; unset is the one above.",
    )


def read_settings() -> Settings:
    """Read the settings of a program from the environment; raises `SettingsInvalid`."""
    return _read(Settings)


def read_development_settings() -> DevelopmentSettings:
    """Read the settings of a development run from the environment; raises `SettingsInvalid`."""
    return _read(DevelopmentSettings)


def variable(field: str) -> str:
    """Name the environment variable that sets a field."""
    return f"{PREFIX}{field.upper()}"


def _read(kind: type[_Kind]) -> _Kind:
    try:
        return kind()
    except ValidationError as refused:
        problems = refused.errors(include_url=False)
        raise SettingsInvalid("\n".join(_sentence(kind, problem) for problem in problems)) from None


def _sentence(kind: type[BaseSettings], problem: ErrorDetails) -> str:
    """Say in one sentence which variable is wrong and what it should be, without showing a secret."""
    if not problem["loc"]:
        return str(problem["ctx"]["error"])
    field = str(problem["loc"][0])
    if problem["type"] == "missing":
        about = kind.model_fields[field].description or ""
        return f"{variable(field)} must be set: {about[:1].lower()}{about[1:]}"
    return f"{variable(field)}{_shown(field, problem['input'])} {_expectation(problem)}."


def _shown(field: str, value: object) -> str:
    text = str(value)
    if field in _SECRETS or len(text) > _SHORTENED_AT:
        return " cannot be used: it"
    return f" is {text!r}, but it"


def _expectation(problem: ErrorDetails) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"].startswith("time_delta"):
        return "must be a duration such as 500ms, 30s, 5m or 24h"
    return re.sub(r"^(Input|String|Value) should ", "must ", problem["msg"]).partition(", unable")[0]
