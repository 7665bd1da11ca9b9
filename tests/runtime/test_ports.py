"""Ports are checked before anything starts, and a busy one is told with its holder and its setting."""

import os
import socket
from collections.abc import Iterator

import pytest

from runtime.ports import LOCALHOST, PortUnusable, choose_ports, port_holder


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server((LOCALHOST, 0)) as server:
        yield server.getsockname()[1]


class TestChoosingPorts:
    def test_keeps_the_wanted_ones_and_picks_a_free_one_for_each_zero(self) -> None:
        with socket.create_server((LOCALHOST, 0)) as server:
            free = server.getsockname()[1]

        chosen = choose_ports({"temporal_port": 0, "api_port": free, "inbox_port": 0})

        assert chosen["api_port"] == free
        assert len(set(chosen.values())) == 3
        assert 0 not in chosen.values()

    def test_names_a_busy_port_its_holder_and_the_setting_to_change(self, busy_port: int) -> None:
        with pytest.raises(PortUnusable) as unusable:
            choose_ports({"api_port": busy_port})

        told = str(unusable.value)
        assert told.startswith(f"Port {busy_port} (TIDEMARK_API_PORT) is already used by ")
        assert told.endswith("Set TIDEMARK_API_PORT to another port, or to 0 for any free one.")
        if os.path.exists("/proc/net/tcp"):  # noqa: PTH110 - Linux tells who
            assert f"pid {os.getpid()} (" in told

    def test_refuses_one_port_for_two_servers(self) -> None:
        with socket.create_server((LOCALHOST, 0)) as server:
            free = server.getsockname()[1]

        with pytest.raises(PortUnusable, match=f"are both {free}"):
            choose_ports({"api_port": free, "inbox_port": free})

    def test_knows_of_no_holder_where_nobody_listens(self) -> None:
        with socket.create_server((LOCALHOST, 0)) as server:
            free = server.getsockname()[1]

        assert port_holder(free) is None
