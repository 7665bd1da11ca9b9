"""Push for owners who have not subscribed any device: nowhere to send it, said honestly."""

from activities.ports import Letter, Undeliverable

NO_SUBSCRIPTION = "no push subscription: the owner has no device to push to"


class PushNowhere:
    """The push sender while nobody can subscribe: what it is given stays readable as undeliverable."""

    async def send(self, letter: Letter) -> None:
        """Send nothing. Always raises Undeliverable; the same notice goes out by e-mail."""
        del letter
        raise Undeliverable(NO_SUBSCRIPTION)
