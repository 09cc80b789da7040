"""Rate limits: counted together by all who share a file, and by nobody else."""

from pathlib import Path

import pytest

from infra.rate_limits import PLACES, RateExceeded, RateLimits, RatesUnreadable, SharedCounts


def test_a_key_may_ask_as_often_as_its_rate_says() -> None:
    """After so many requests in a window a key has to wait, until the window ends, and no other key has to."""
    limits = RateLimits("3/day", "", SharedCounts(None, 1))
    for _ in range(3):
        limits.count("one", "192.0.2.1")
    with pytest.raises(RateExceeded) as exceeded:
        limits.count("one", "192.0.2.2")
    assert 0 < exceeded.value.retry_after_seconds <= 86_400
    limits.count("other", "192.0.2.1")


def test_an_address_has_a_rate_of_its_own() -> None:
    """Whoever has no key, or many, is counted by address; several rates hold together."""
    limits = RateLimits("", "100/second;4/day", SharedCounts(None, 1))
    for key in ("", "a", "b", ""):
        limits.count(key, "192.0.2.1")
    with pytest.raises(RateExceeded):
        limits.count("c", "192.0.2.1")
    limits.count("c", "192.0.2.2")


def test_an_address_of_ipv6_counts_with_its_network() -> None:
    """Whoever has one such address has as many as they like: the first 64 bits are counted."""
    limits = RateLimits("", "2/day", SharedCounts(None, 1))
    limits.count("", "2001:db8::1")
    limits.count("", "2001:db8::2")
    with pytest.raises(RateExceeded):
        limits.count("", "2001:db8::3")
    limits.count("", "2001:db8:0:1::1")


def test_made_up_keys_take_no_places_from_others() -> None:
    """What the address is refused is not counted for the key."""
    limits = RateLimits("1/day", "1/day", SharedCounts(None, 1))
    limits.count("one", "192.0.2.1")
    with pytest.raises(RateExceeded):
        limits.count("other", "192.0.2.1")
    limits.count("other", "192.0.2.2")


def test_workers_count_together(tmp_path: Path) -> None:
    """What one worker has counted, the other sees; a worker that takes the place of another goes on with its count."""
    file = tmp_path / "rates"
    file.touch()
    first, second = SharedCounts(file, 2), SharedCounts(file, 2)
    second._own, second._others = PLACES, [0]  # noqa: SLF001  locks are per process, and both are in this one
    assert [first.add("key", "k", 7), second.add("key", "k", 7), first.add("key", "k", 7)] == [1, 2, 3]
    assert SharedCounts(file, 2).add("key", "k", 7) == 4
    assert first.add("key", "other", 7) == 1


def test_a_new_window_begins_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was counted in a window does not count in the next."""
    limits = RateLimits("1/minute", "", SharedCounts(None, 1))
    monkeypatch.setattr("infra.clock.second", lambda: 100)
    limits.count("k", "192.0.2.1")
    with pytest.raises(RateExceeded) as exceeded:
        limits.count("k", "192.0.2.1")
    assert exceeded.value.retry_after_seconds == 20
    monkeypatch.setattr("infra.clock.second", lambda: 120)
    limits.count("k", "192.0.2.1")


@pytest.mark.parametrize("said", ["many", "5", "5/blink", "5/second;many", "0/second", "16777216/day"])
def test_what_is_no_rate_is_refused(said: str) -> None:
    """A rate that cannot be read is said to be one, with an example."""
    with pytest.raises(RatesUnreadable, match="500/second"):
        RateLimits(said, "", SharedCounts(None, 1))
