"""Devices: what a User-Agent says about the kind of it."""

import pytest

from infra.devices import device_type_of

SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0"


@pytest.mark.parametrize(
    ("user_agent", "kind"),
    [
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36", "computer"),
        (f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} Safari/537.36", "computer"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:130.0) Gecko/20100101 Firefox/130.0", "computer"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {SAFARI}", "phone"),
        (f"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) {SAFARI}", "tablet"),
        (f"Mozilla/5.0 (Linux; Android 13; SM-S918B) {CHROME} Mobile Safari/537.36", "phone"),
        (f"Mozilla/5.0 (Linux; Android 13; SM-X906C) {CHROME} Safari/537.36", "tablet"),
        (f"Mozilla/5.0 (Linux; Android 9; BRAVIA 4K UR2) {CHROME} Safari/537.36", "connected_tv"),
        (f"Mozilla/5.0 (Web0S; Linux/SmartTV) {CHROME} Safari/537.36 WebAppManager", "connected_tv"),
        ("Roku/DVP-9.10 (519.10E04111A)", "connected_tv"),
        ("Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15", "connected_device"),
        ("curl/8.4.0", None),
        ("", None),
    ],
)
def test_the_kind_of_a_device(user_agent: str, kind: str | None) -> None:
    """Computers, phones, tablets, televisions and consoles are told apart; of others nothing is claimed."""
    assert device_type_of(user_agent) == kind
