"""Where a registration link leads."""


def address_of(public_url: str, token: str) -> str:
    """The address that a person registers by."""
    return f"{public_url}/join/{token}"
