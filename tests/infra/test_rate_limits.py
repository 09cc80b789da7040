"""Rate limits: counted together by all who share a file, and by nobody else."""

from pathlib import Path

import pytest

from infra.rate_limits import RateExceeded, RateLimits, RatesUnreadable, SharedCounts


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


def test_workers_count_together(tmp_path: Path) -> None:
    """What one worker has counted, the other sees; one that forgets takes only its own count back."""
    file = tmp_path / "rates"
    file.touch()
    first, second = SharedCounts(file, 2), SharedCounts(file, 2)
    second._own, first._own = 0, 65_536  # noqa: SLF001  locks are per process, and both are in this one
    assert [first.incr("k", 86_400), second.incr("k", 86_400), first.incr("k", 86_400)] == [1, 2, 3]
    first.reset()
    assert second.incr("k", 86_400) == 2
    assert first.incr("other", 86_400) == 1


def test_a_new_window_begins_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was counted in a window does not count in the next."""
    counts = SharedCounts(None, 1)
    monkeypatch.setattr("infra.clock.second", lambda: 100)
    assert [counts.incr("k", 60), counts.incr("k", 60)] == [1, 2]
    monkeypatch.setattr("infra.clock.second", lambda: 120)
    assert counts.incr("k", 60) == 1


@pytest.mark.parametrize("said", ["many", "5", "5/blink", "5/second;many"])
def test_what_is_no_rate_is_refused(said: str) -> None:
    """A rate that cannot be read is said to be one, with an example."""
    with pytest.raises(RatesUnreadable, match="500/second"):
        RateLimits(said, "", SharedCounts(None, 1))
