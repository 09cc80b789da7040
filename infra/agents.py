"""Who sends a request, as its User-Agent says: the list of crawlers is the package `crawler-user-agents`.

What that list tags as an HTTP library is one; whatever else it lists is a crawler. A name that was not met before is
compared with all of the list, which takes some 100 us, and then remembered.
"""

import re
from functools import lru_cache
from hashlib import sha256
from typing import Final

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from domain.validity import Agent

CHARACTERS_MAX: Final = 512
"""What stands beyond is not looked at."""

AGENTS_KNOWN_MAX: Final = 16_384
CHUNK_PATTERNS: Final = 25
"""So many patterns in one are found fastest."""

_LIBRARY: Final = "http-library"


def _compiled(patterns: list[str]) -> tuple[re.Pattern[str], ...]:
    chunks = (patterns[first : first + CHUNK_PATTERNS] for first in range(0, len(patterns), CHUNK_PATTERNS))
    return tuple(re.compile("|".join(chunk)) for chunk in chunks)


_CRAWLERS: Final = _compiled([each["pattern"] for each in CRAWLER_USER_AGENTS_DATA if _LIBRARY not in each["tags"]])
_LIBRARIES: Final = _compiled([each["pattern"] for each in CRAWLER_USER_AGENTS_DATA if _LIBRARY in each["tags"]])


def agent_of(user_agent: bytes) -> Agent:
    """Return who names itself so."""
    return _known(user_agent[:CHARACTERS_MAX])


@lru_cache(maxsize=AGENTS_KNOWN_MAX)
def _known(user_agent: bytes) -> Agent:
    name = user_agent.decode("latin-1").strip()
    if not name:
        return "unnamed"
    if any(pattern.search(name) for pattern in _CRAWLERS):
        return "crawler"
    return "library" if any(pattern.search(name) for pattern in _LIBRARIES) else "browser"


def list_sha256() -> str:
    """Return the SHA-256 (hexadecimal) of the list, for which the version of the rules stands too."""
    lines = sorted(f"{each['pattern']}\t{_LIBRARY in each['tags']}" for each in CRAWLER_USER_AGENTS_DATA)
    return sha256("\n".join(lines).encode()).hexdigest()
