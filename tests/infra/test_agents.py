"""Agents: who sends a request, as its User-Agent says."""

import pytest

from domain.validity import CRAWLERS_SHA256, Agent
from infra.agents import agent_of, list_sha256


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (b"Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36", "browser"),
        (b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "crawler"),
        (b"curl/8.5.0", "library"),
        (b"", "unnamed"),
    ],
)
def test_a_name_says_who_it_is(user_agent: bytes, expected: Agent) -> None:
    """Crawlers and the libraries of programs are known by their names; whatever else has a name is a browser."""
    assert agent_of(user_agent) == expected


def test_the_list_is_that_of_the_version() -> None:
    """A list that has changed decides otherwise: it needs a new version of the rules, and its hash beside it."""
    assert list_sha256() == CRAWLERS_SHA256
