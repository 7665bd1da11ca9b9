"""How long each step of a top-up may take, as the settings say."""

from activities.messages import Patience
from runtime.settings import Settings


def patience_of(settings: Settings) -> Patience:
    """The patience that travels with every order, so that a run keeps what it was started with."""
    return Patience(
        check=settings.check_timeout,
        draw=settings.draw_timeout,
        notify=settings.notify_patience,
        notify_give_up=settings.notify_give_up_after,
    )
