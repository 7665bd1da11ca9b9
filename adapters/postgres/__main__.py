"""The command that brings a database up to date: `python -m adapters.postgres upgrade`."""

import os
import sys

from adapters.postgres.grants import RoleMissing
from adapters.postgres.migrations.reach import upgrade
from adapters.postgres.url import without_password

DATABASE_SETTING = "TIDEMARK_DATABASE_URL"
OWNER_SETTING = "TIDEMARK_MIGRATION_DATABASE_URL"


def main(arguments: list[str]) -> int:
    """Upgrade the database the settings name, as the owner they name. Returns the exit code."""
    if arguments != ["upgrade"]:
        sys.stderr.write("usage: python -m adapters.postgres upgrade\n")
        return 2
    address = os.environ.get(DATABASE_SETTING)
    if not address:
        sys.stderr.write(f"{DATABASE_SETTING} is not set: name the database to upgrade\n")
        return 2
    owner = os.environ.get(OWNER_SETTING) or address
    try:
        upgrade(owner, program_url=address)
    except RoleMissing as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    sys.stdout.write(f"{without_password(address)} is up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
