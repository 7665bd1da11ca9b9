"""Style, scripts and pictures of the pages: files of this room, kept by browsers until their content changes."""

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from console.page import STATIC

_FOR_EVER = "public, max-age=31536000, immutable"
_CAREFUL = {"Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}


class PageFiles(StaticFiles):
    """The files, each asked for by an address that names its content."""

    def __init__(self) -> None:
        """Serve the room's own folder."""
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Give the file, to be kept for ever where the address names its content."""
        answer = await super().get_response(path, scope)
        named = scope["query_string"].startswith(b"v=")
        answer.headers["Cache-Control"] = _FOR_EVER if named else "no-cache"
        answer.headers.update(_CAREFUL)
        return answer
