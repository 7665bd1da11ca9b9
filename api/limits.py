"""Rate limits: how often one API key, or one address without a valid key, may ask within a window of time."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

COUNTED_MAX = 20_000
"""How many keys, and how many addresses, are counted at once; beyond that the oldest counts are forgotten."""

_IPV6_HOUSEHOLD = 64
"""One household or server has this many bits of IPv6 network in common, and all the addresses behind them."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands to its limit, after the request just counted."""

    policy: str
    quota: int
    window_seconds: int
    remaining: int
    reset_seconds: int
    """Until the window ends and the whole quota is there again; at least one."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The fields RateLimit and RateLimit-Policy, as draft-ietf-httpapi-ratelimit-headers-10 has them."""
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.quota};w={self.window_seconds}',
            "RateLimit": f'"{self.policy}";r={self.remaining};t={self.reset_seconds}',
        }


class TooMany(Exception):
    """The caller has used up its quota; nothing was done."""

    def __init__(self, standing: Standing) -> None:
        """Say when it is worth asking again."""
        super().__init__(
            f"At most {standing.quota} requests in {_seconds(standing.window_seconds)}: nothing was done. "
            f"Ask again in {_seconds(standing.reset_seconds)}, a POST with the same Idempotency-Key."
        )
        self.standing = standing


class Counts(Storage):
    """Counters in this program's memory, of a bounded number; each lives for one window."""

    STORAGE_SCHEME = None

    def __init__(self, *, most: int, clock: Callable[[], float]) -> None:
        """`clock` gives seconds; every counter must have a window of the same length."""
        super().__init__()
        self._most = most
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        """How many counters there are."""
        return len(self._windows)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What this storage fails with: nothing of its own."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count, in the key's window or in a new one."""
        self._forget(makes_room=key not in self._windows)
        ends, count = self._windows.get(key, (self._clock() + expiry, 0))
        self._windows[key] = (ends, count + amount)
        return count + amount

    def get(self, key: str) -> int:
        """The count in the key's window; nothing when it has none."""
        ends, count = self._windows.get(key, (0.0, 0))
        return count if ends > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        """When the key's window ends."""
        return self._windows.get(key, (self._clock(), 0))[0]

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forget everything; how many counters there were."""
        found = len(self._windows)
        self._windows.clear()
        return found

    def clear(self, key: str) -> None:
        """Forget one counter."""
        self._windows.pop(key, None)

    def _forget(self, *, makes_room: bool) -> None:
        """Drop windows that have ended, and the oldest of too many. The first that began is the first that ends."""
        now = self._clock()
        while self._windows:
            key, (ends, _) = next(iter(self._windows.items()))
            crowded = makes_room and len(self._windows) >= self._most
            if ends > now and not crowded:
                return
            del self._windows[key]


class Limits:
    """Both limits, counted by this program alone: several API programs each allow the whole quota."""

    def __init__(
        self,
        *,
        per_key: str,
        per_address: str,
        clock: Callable[[], float] = time.monotonic,
        counted_max: int = COUNTED_MAX,
    ) -> None:
        """Quotas such as "600/minute" or "20 per 10 seconds"."""
        self._clock = clock
        self._keys = _Gate("key", parse(per_key), Counts(most=counted_max, clock=clock))
        self._addresses = _Gate("address", parse(per_address), Counts(most=counted_max, clock=clock))

    def admit_key(self, key_id: str) -> Standing:
        """Count a request with this valid key. Raises TooMany."""
        return self._keys.admit(key_id, now=self._clock())

    def admit_stranger(self, address: str | None) -> Standing:
        """Count a request without a valid key from this address. Raises TooMany."""
        return self._addresses.admit(_neighbourhood(address), now=self._clock())


class _Gate:
    """One quota, counted in windows that begin with a caller's first request."""

    def __init__(self, policy: str, item: RateLimitItem, counts: Counts) -> None:
        self._policy = policy
        self._item = item
        self._counts = counts
        self._limiter = FixedWindowRateLimiter(counts)

    def admit(self, name: str, *, now: float) -> Standing:
        admitted = self._limiter.hit(self._item, name)
        stats = self._limiter.get_window_stats(self._item, name)
        standing = Standing(
            policy=self._policy,
            quota=self._item.amount,
            window_seconds=self._item.get_expiry(),
            remaining=stats.remaining,
            reset_seconds=min(max(1, math.ceil(stats.reset_time - now)), self._item.get_expiry()),
        )
        if not admitted:
            raise TooMany(standing)
        return standing


def _seconds(number: int) -> str:
    return f"{number} second{'' if number == 1 else 's'}"


def _neighbourhood(address: str | None) -> str:
    """Who shares one count: an IPv4 address, or an IPv6 network, whose single addresses cost its owner nothing."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_HOUSEHOLD), strict=False))
