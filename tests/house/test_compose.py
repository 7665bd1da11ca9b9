"""The compose file, held without an engine: the published schema, and commands and settings that exist."""

import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from runtime.settings import Settings, read_settings, variable
from tests.house.building import ROOT

COMPOSE = ROOT / "docker-compose.yml"
OURS = ("migrate", "worker", "watcher", "api")
UI_SWITCHES = (
    "TEMPORAL_WORKFLOW_TERMINATE_DISABLED",
    "TEMPORAL_WORKFLOW_RESET_DISABLED",
    "TEMPORAL_START_WORKFLOW_DISABLED",
    "TEMPORAL_ACTIVITY_COMMANDS_DISABLED",
    "TEMPORAL_BATCH_ACTIONS_DISABLED",
)
WORKER_GRACE = timedelta(seconds=5)
_VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")


def composed() -> Mapping[str, Any]:
    """The file as YAML reads it."""
    read: Mapping[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return read


def services() -> Mapping[str, Mapping[str, Any]]:
    """Its services by name."""
    listed: Mapping[str, Mapping[str, Any]] = composed()["services"]
    return listed


def filled_in(text: object) -> str:
    """A value with every variable replaced by its default, or by a word where it must be given."""
    return _VARIABLE.sub(lambda found: found[3] if found[2] == ":-" else "given", str(text))


def _user(address: str) -> str:
    """The user a database's address names."""
    return address.partition("://")[2].partition(":")[0]


def seconds(duration: str) -> timedelta:
    """A duration as Compose writes it."""
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return timedelta(**{{"s": "seconds", "m": "minutes"}[unit]: int(number)})


class TestTheFile:
    def test_follows_the_published_schema(self) -> None:
        said = subprocess.run(
            [
                sys.executable,
                "-m",
                "check_jsonschema",
                "--builtin-schema",
                "vendor.compose-spec",
                str(COMPOSE),
            ],
            capture_output=True,
            text=True,
            check=False,
        )

        assert said.returncode == 0, said.stdout + said.stderr

    def test_holds_no_secret(self) -> None:
        for name, service in services().items():
            for key, value in service.get("environment", {}).items():
                if re.search(r"PASSWORD|PWD|SECRET|TOKEN|API_KEY", key):
                    assert re.fullmatch(r"\$\{\w+:(\?.+|-)\}", str(value)), f"{name}: {key}"
                assert not re.search(r"://[^:@/$]+:[^@$]+@", str(value)), f"{name}: {key}"

    def test_asks_for_every_password_it_cannot_do_without(self) -> None:
        asked = {found[1] for found in _VARIABLE.finditer(COMPOSE.read_text()) if found[2] == ":?"}

        assert asked == {"POSTGRES_PASSWORD", "PROGRAMS_POSTGRES_PASSWORD", "TEMPORAL_POSTGRES_PASSWORD"}

    @pytest.mark.parametrize("name", services())
    def test_pins_every_image_to_a_version(self, name: str) -> None:
        image = services()[name]["image"]

        assert name in OURS or re.search(r":v?\d+\.\d+", image), image

    @pytest.mark.parametrize("name", services())
    def test_hardens_every_container(self, name: str) -> None:
        service = services()[name]

        assert service["init"] is True
        assert "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service

    @pytest.mark.parametrize("name", services())
    def test_opens_ports_on_this_host_alone(self, name: str) -> None:
        assert all(port.startswith("127.0.0.1:") for port in services()[name].get("ports", []))

    @pytest.mark.parametrize("name", services())
    def test_waits_for_what_can_be_waited_for(self, name: str) -> None:
        for other, how in services()[name].get("depends_on", {}).items():
            awaited = services()[other]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in awaited, other
            else:
                assert how["condition"] == "service_completed_successfully"
                assert str(awaited["restart"]).startswith("on-failure"), other

    @pytest.mark.parametrize("name", services())
    def test_checks_the_health_of_all_that_stay(self, name: str) -> None:
        service = services()[name]

        stays = service["restart"] == "unless-stopped"
        assert ("healthcheck" in service) == stays or name == "temporal-ui"

    def test_names_only_volumes_and_configs_it_has(self) -> None:
        mounted = {
            volume.partition(":")[0] for each in services().values() for volume in each.get("volumes", [])
        }
        configured = {
            each["source"] for service in services().values() for each in service.get("configs", [])
        }

        assert mounted == set(composed()["volumes"])
        assert configured == set(composed()["configs"])


class TestOurProcesses:
    @pytest.mark.parametrize("name", OURS)
    def test_run_commands_that_exist(self, name: str) -> None:
        python, option, module, *arguments = services()[name]["command"]

        assert (python, option) == ("python", "-m")
        path = ROOT / module.replace(".", "/")
        program = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert program.exists()
        for argument in arguments:
            assert f'"{argument}"' in program.read_text(), argument

    @pytest.mark.parametrize("name", OURS)
    def test_take_settings_that_exist_and_values_they_accept(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {key: filled_in(value) for key, value in services()[name]["environment"].items()}
        ours = {key: value for key, value in given.items() if key.startswith("TIDEMARK_")}
        for key, value in ours.items():
            monkeypatch.setenv(key, value)

        read = read_settings()

        assert set(ours) <= {variable(field) for field in Settings.model_fields}
        assert set(given) - set(ours) == {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}
        assert read.environment == "production"

    @pytest.mark.parametrize("name", OURS)
    def test_are_one_image_without_rights_or_a_writable_disk(self, name: str) -> None:
        service = services()[name]

        assert service["image"] == services()["worker"]["image"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]

    @pytest.mark.parametrize("name", OURS)
    def test_are_given_longer_to_stop_than_the_longest_draw(self, name: str) -> None:
        longest: timedelta = TypeAdapter(timedelta).validate_python(
            Settings.model_fields["draw_timeout"].default
        )

        assert seconds(services()[name]["stop_grace_period"]) > longest + WORKER_GRACE

    @pytest.mark.parametrize("name", ["worker", "watcher", "api"])
    def test_start_once_the_schema_and_the_namespace_are_there(self, name: str) -> None:
        assert services()[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "temporal-namespace": {"condition": "service_completed_successfully"},
        }

    @pytest.mark.parametrize("name", ["worker", "watcher", "api"])
    def test_are_asked_for_their_health_where_they_answer(self, name: str) -> None:
        service = services()[name]
        asked = re.search(r"http://127\.0\.0\.1:(\d+)/(\w+)", service["healthcheck"]["test"][-1])

        assert asked
        port, path = asked.groups()
        environment = service["environment"]
        if path == "metrics":
            assert environment["TIDEMARK_METRICS_BIND"].endswith(f":{port}")
        else:
            assert str(environment["TIDEMARK_API_PORT"]) == port
            assert f'"/{path}"' in (ROOT / "api" / "health.py").read_text()

    def test_log_in_as_somebody_who_owns_nothing_while_the_upgrade_alone_is_the_owner(self) -> None:
        owner = services()["postgres"]["environment"]["POSTGRES_USER"]
        users = {name: _user(services()[name]["environment"]["TIDEMARK_DATABASE_URL"]) for name in OURS}
        owners = {
            name for name in OURS if "TIDEMARK_MIGRATION_DATABASE_URL" in services()[name]["environment"]
        }

        assert len(set(users.values())) == 1
        assert owner not in users.values()
        assert owners == {"migrate"}
        assert _user(services()["migrate"]["environment"]["TIDEMARK_MIGRATION_DATABASE_URL"]) == owner
        for name in ("worker", "watcher", "api"):
            assert "{POSTGRES_PASSWORD" not in str(services()[name]), name

    def test_find_temporal_and_the_database_where_they_are(self) -> None:
        environment = services()["worker"]["environment"]

        assert environment["TEMPORAL_ADDRESS"].partition(":")[0] in services()
        assert "@postgres:" in environment["TIDEMARK_DATABASE_URL"]
        assert "tidemark" in services()["temporal-namespace"]["command"][0]


class TestTemporal:
    @pytest.mark.parametrize("switch", UI_SWITCHES)
    def test_offers_no_button_that_skips_the_settling(self, switch: str) -> None:
        assert services()["temporal-ui"]["environment"][switch] == "true"

    @pytest.mark.parametrize("kept", ["TEMPORAL_WORKFLOW_CANCEL_DISABLED", "TEMPORAL_DISABLE_WRITE_ACTIONS"])
    def test_keeps_the_buttons_that_go_through_the_story(self, kept: str) -> None:
        assert kept not in services()["temporal-ui"]["environment"]

    def test_has_databases_of_its_own(self) -> None:
        assert services()["temporal"]["environment"]["POSTGRES_SEEDS"] == "temporal-postgres"
        assert services()["temporal-postgres"]["volumes"] != services()["postgres"]["volumes"]

    def test_is_new_enough_for_what_is_used(self) -> None:
        for name in ("temporal", "temporal-schema", "temporal-namespace"):
            major, minor, _ = services()[name]["image"].rpartition(":")[2].split(".")
            assert (int(major), int(minor)) >= (1, 29)


class TestTheImage:
    def test_is_locked_without_development_tools_and_runs_without_rights(self) -> None:
        image = (ROOT / "Dockerfile").read_text()

        assert "uv sync --frozen --no-dev" in image
        assert re.search(r"^USER \d+:\d+$", image, re.MULTILINE)
        assert all(re.search(r":\d+\.\d+", line) for line in re.findall(r"^FROM .*", image, re.MULTILINE))

    def test_takes_in_nothing_that_is_not_named(self) -> None:
        wanted = (ROOT / ".dockerignore").read_text().splitlines()

        assert "*" in wanted
        assert not any(line.startswith("!.") for line in wanted)

    def test_copies_only_what_exists(self) -> None:
        for line in re.findall(r"^COPY (?!--)(.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
            for source in line.split()[:-1]:
                assert Path(ROOT / source).exists(), source
