"""The Temporal client, its patience while the server is away, and the search attributes operators filter by."""

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client, Plugin
from temporalio.common import SearchAttributeIndexedValueType
from temporalio.envconfig import ClientConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from runtime.payload_keys import PayloadKeys
from runtime.payloads import converter_of
from runtime.settings import Settings

DEFAULT_ADDRESS = "localhost:7233"

_log = structlog.get_logger(__name__)
_UNTRUSTED = re.compile(r"InvalidCertificate\((?P<why>\w+)")
_PAUSE_FIRST = 0.25
_PAUSE_LONGEST = 5.0
# What a server says while it starts or while its namespace is being made.
_PASSING = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.NOT_FOUND})


class TemporalSettingsInvalid(ValueError):
    """Temporal's own settings (TEMPORAL_* or its configuration file) cannot be used."""


class TemporalNotTrusted(TemporalSettingsInvalid):
    """Somebody answers at Temporal's address, and cannot show that it is Temporal."""


class TemporalUnreachable(ConnectionError):
    """Temporal did not answer within the time allowed."""


class SearchAttributesMissing(RuntimeError):
    """The search attributes cannot be brought into the state the workflows need."""


async def connect(
    settings: Settings,
    *,
    plugins: Sequence[Plugin] = (),
    lazy: bool = False,
    patience: timedelta | None = None,
) -> Client:
    """Connect as TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and their kin say, waiting until the server answers.

    Without `patience` it waits for ever, saying so in the log; with it, raises `TemporalUnreachable`. A `lazy`
    client is returned at once and connects with its first call. Raises `TemporalSettingsInvalid`, and
    `TemporalNotTrusted` where TLS finds a certificate that is not vouched for: waiting would not mend it.
    """
    options = _options(settings)
    if lazy:
        return await Client.connect(**options, plugins=plugins, lazy=True)
    async with _deadline(patience, str(options["target_host"])):
        return await _connect_until_answered(options, plugins)


def keys_of(settings: Settings) -> PayloadKeys:
    """The keys that encrypt what Temporal keeps; none where it is kept as it is."""
    given = settings.payload_keys
    return PayloadKeys.read(given.get_secret_value()) if given else PayloadKeys()


async def ensure_search_attributes(
    client: Client,
    wanted: Mapping[str, SearchAttributeIndexedValueType],
    *,
    patience: timedelta = timedelta(seconds=60),
) -> None:
    """Register the search attributes that are missing, and wait until all can be used.

    Temporal accepts a second registration with another type silently, so the types are compared here.
    Raises `SearchAttributesMissing` on a differing type or when registering is refused.
    """
    async with _deadline(patience, client.service_client.config.target_host):
        missing = _missing(await _registered(client), wanted)
        if missing:
            await _register(client, missing)
            _log.info("temporal.search_attributes.registered", names=sorted(missing))
        while _missing(await _registered(client), wanted):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(_PAUSE_FIRST)


def _options(settings: Settings) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError) as refused:
        msg = f"Temporal's settings cannot be used: {refused}"
        raise TemporalSettingsInvalid(msg) from None
    options.setdefault("target_host", DEFAULT_ADDRESS)
    _refuse_open_key(options)
    options["data_converter"] = converter_of(keys_of(settings))
    if settings.metrics_bind is not None:
        options["runtime"] = _runtime_with_metrics(settings.metrics_bind)
    return options


def _refuse_open_key(options: Mapping[str, Any]) -> None:
    """An API key is sent with every call: on a network it would be read, and used, by others."""
    address = str(options["target_host"])
    if options.get("api_key") and options.get("tls") is False and not is_this_machine(address):
        msg = (
            f"TEMPORAL_API_KEY would travel readably to {address}: unset TEMPORAL_TLS, which a key turns on, or set "
            "it to true."
        )
        raise TemporalSettingsInvalid(msg)


def is_this_machine(address: str) -> bool:
    """Whether host:port is here, so that what is sent there passes no network."""
    host = address.rpartition(":")[0].strip("[]") or address
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _runtime_with_metrics(bind_address: str) -> Runtime:
    metrics = PrometheusConfig(
        bind_address=bind_address,
        durations_as_seconds=True,
        unit_suffix=True,
        counters_total_suffix=True,
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=metrics))
    except (RuntimeError, ValueError) as refused:
        msg = f"TIDEMARK_METRICS_BIND is {bind_address!r}, but metrics cannot be shown there: {refused}"
        raise TemporalSettingsInvalid(msg) from None


async def _connect_until_answered(options: Mapping[str, Any], plugins: Sequence[Plugin]) -> Client:
    pause = _PAUSE_FIRST
    waited = False
    while True:
        try:
            client = await Client.connect(**options, plugins=plugins)
        except RuntimeError as unanswered:
            _refuse_untrusted(unanswered, str(options["target_host"]))
            waited = True
            _log.warning(
                "temporal.unreachable",
                address=options["target_host"],
                explanation="Temporal does not answer yet; asking again until it does",
                said=str(unanswered)[:300],
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_LONGEST)
        else:
            if waited:
                _log.info("temporal.reached", address=options["target_host"])
            return client


def _refuse_untrusted(error: RuntimeError, address: str) -> None:
    found = _UNTRUSTED.search(str(error))
    if found:
        msg = (
            f"Who answers at {address} cannot show to be Temporal: its certificate is not trusted here "
            f"({found['why']}). Name the CA in TEMPORAL_TLS_SERVER_CA_CERT_PATH, and the name in the certificate in "
            "TEMPORAL_TLS_SERVER_NAME where it is not the address's."
        )
        raise TemporalNotTrusted(msg) from None


@contextlib.asynccontextmanager
async def _deadline(patience: timedelta | None, address: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(None if patience is None else patience.total_seconds()):
            yield
    except TimeoutError:
        seconds = 0 if patience is None else round(patience.total_seconds())
        msg = f"Temporal at {address} did not answer within {seconds} seconds."
        raise TemporalUnreachable(msg) from None


async def _registered(client: Client) -> Mapping[str, int]:
    """List the namespace's search attributes, waiting while the server or the namespace is not there yet."""
    while True:
        try:
            answer = await client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=client.namespace)
            )
        except RPCError as unanswered:
            if unanswered.status not in _PASSING:
                raise _refusal(unanswered) from unanswered
            _log.warning(
                "temporal.namespace.unreachable", namespace=client.namespace, said=unanswered.message[:300]
            )
            await asyncio.sleep(1)
        else:
            return {**answer.system_attributes, **answer.custom_attributes}


def _missing(
    registered: Mapping[str, int], wanted: Mapping[str, SearchAttributeIndexedValueType]
) -> dict[str, SearchAttributeIndexedValueType]:
    for name, kind in wanted.items():
        if registered.get(name, kind) != kind:
            actual = SearchAttributeIndexedValueType(registered[name]).name
            msg = (
                f"Temporal's search attribute {name} exists as {actual} but must be {kind.name}: remove it with "
                f"`temporal operator search-attribute remove --name {name}`, or use another namespace."
            )
            raise SearchAttributesMissing(msg)
    return {name: kind for name, kind in wanted.items() if name not in registered}


async def _register(client: Client, missing: Mapping[str, SearchAttributeIndexedValueType]) -> None:
    request = AddSearchAttributesRequest(namespace=client.namespace)
    for name, kind in missing.items():
        request.search_attributes[name] = kind.value  # type: ignore[assignment]
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as refused:
        if refused.status is not RPCStatusCode.ALREADY_EXISTS:
            raise _refusal(refused) from refused


def _refusal(refused: RPCError) -> SearchAttributesMissing:
    msg = (
        f"Temporal refused to list or register search attributes ({refused.message}). Register them by hand: "
        "`temporal operator search-attribute create --name ... --type ...`."
    )
    return SearchAttributesMissing(msg)
