"""The commands of the API as programs: serving until told to stop, and looking after keys."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from api.serving import listen
from tests.api.programs import environment, run, serving
from tests.served import client_at


class TestListening:
    def test_lets_no_answer_wait_for_a_fuller_packet(self) -> None:
        with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class TestTheKeyCommands:
    async def test_make_a_key_that_works_list_it_and_revoke_it(self, database_url: str) -> None:
        env = environment(database_url)
        code, out, _ = await run(
            "keys", "create", "--name", "back end", "--scopes", "rules:read,wallets:read", env=env
        )
        key = out.splitlines()[-1]
        assert code == 0
        assert re.fullmatch(r"tm_[A-Za-z0-9_-]{43}", key)
        (key_id,) = re.findall(r"^(key_\w+) may rules:read, wallets:read", out)

        async with (
            serving(database_url) as program,
            client_at(program.url) as client,
        ):
            client.headers["Authorization"] = f"Bearer {key}"
            before = (await client.get("/v1/rules")).status_code
            revoked = await run("keys", "revoke", key_id, env=env)
            after = (await client.get("/v1/rules")).status_code

        assert (before, revoked[0], after) == (200, 0, 401)
        _, listed, _ = await run("keys", "list", env=env)
        assert listed == f"{key_id} revoked rules:read,wallets:read back end\n"

    async def test_refuse_what_cannot_be_in_words(self, database_url: str) -> None:
        env = environment(database_url)
        unknown_scope = await run("keys", "create", "--name", "x", "--scopes", "rules:rite", env=env)
        unknown_owner = await run(
            "keys", "create", "--name", "x", "--scopes", "admin", "--owner", "owner_1", env=env
        )
        unknown_key = await run("keys", "revoke", "key_1", env=env)

        assert [unknown_scope[0], unknown_owner[0], unknown_key[0]] == [2, 1, 1]
        assert "rules:rite is no scope; known are rules:read" in unknown_scope[2]
        assert "There is no owner 'owner_1'" in unknown_owner[2]
        assert "There is no key 'key_1'" in unknown_key[2]

    async def test_say_what_to_do_without_a_database(self, tmp_path: Path) -> None:
        env = environment(f"postgresql://nobody@/nothing?host={tmp_path}")
        code, _, err = await run("keys", "list", env=env)

        assert code == 1
        assert "cannot be reached" in err
        assert "Traceback" not in err

    async def test_say_which_setting_is_missing(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
        code, _, err = await run("keys", "list", env=env)

        assert code == 2
        assert err.startswith("TIDEMARK_DATABASE_URL must be set")


class TestTheServer:
    async def test_answers_and_ends_in_good_order_when_told_to(self, database_url: str) -> None:
        async with serving(database_url) as program:
            async with client_at(program.url) as client:
                alive = await client.get("/livez")
                ready = await client.get("/readyz")
            await program.finish()
            code = program.running.returncode

        assert alive.status_code == 200
        assert "server" not in alive.headers
        assert ready.json()["checks"]["migrations"]["ok"] is True
        assert ready.json()["checks"]["temporal"]["ok"] is False
        assert code == 0

    async def test_says_so_when_its_port_is_taken(self, database_url: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            code, _, err = await run(env=environment(database_url, TIDEMARK_API_PORT=port))

        assert code == 1
        assert f"127.0.0.1:{port} is taken" in err
        assert "TIDEMARK_API_PORT" in err
        assert "Traceback" not in err


class TestACommand:
    def test_does_not_read_the_whole_server_first(self) -> None:
        asked = (
            "import sys, api.__main__; print(*{'fastapi', 'temporalio', 'console.page'} & set(sys.modules))"
        )

        read = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

        assert read.stdout.split() == []
