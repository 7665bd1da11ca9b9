"""Database addresses as the drivers want them."""

from sqlalchemy import URL, make_url


def engine_url(database_url: str) -> URL:
    """The same database for SQLAlchemy with psycopg 3, whatever driver the address names."""
    return make_url(database_url).set(drivername="postgresql+psycopg")


def without_password(database_url: str) -> str:
    """The address as it may be shown."""
    return make_url(database_url).render_as_string(hide_password=True)
