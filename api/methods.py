"""Which methods a path allows: the framework names only those of the first route that fits."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route


def methods_of(path: str, routes: Sequence[BaseRoute]) -> str:
    """The value of the header Allow for this path."""
    fitting = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))
