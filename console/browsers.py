"""What kind of browser is asking, in words that its owner knows it by."""

from starlette.requests import Request

_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
)
"""The first one that fits is said; many browsers also name others that they want to be taken for."""


def browser_of(request: Request) -> str:
    """Such as "Chrome on Android"; what it says of itself is a hint for people, and nothing depends on it."""
    agent = request.headers.get("user-agent", "")
    browser = next((name for sign, name in _BROWSERS if sign in agent), "A browser")
    system = next((f" on {name}" for sign, name in _SYSTEMS if sign in agent), "")
    return browser + system
