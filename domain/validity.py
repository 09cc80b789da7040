"""Valid and invalid traffic: the rules by which a beacon counts, or is marked as one that does not.

Invalid beacons are recorded with the reason, and neither billed nor counted against a budget or a frequency cap. The
rules have a version, which every delivery carries: a change of them, or of the list of crawlers, is a new version.
Who shows a slot key reports for others: only the names of crawlers are looked for then.
"""

from typing import Final, Literal, NamedTuple

RULES: Final = 1
"""The version of these rules; events without one are from before there were any."""

CRAWLERS_SHA256: Final = "e00912ffc36146d0aa4bb1fbc90e81ef6664b707108f3a7cc92d4d1ee8da9f1e"
"""The list of crawlers that goes with the version: what is listed decides as well."""

Agent = Literal["browser", "crawler", "library", "unnamed"]
"""Who sends a beacon, as its User-Agent says: libraries are those of programs, and the clients of command lines."""

Invalid = Literal[
    "invalid:prefetch",
    "invalid:crawler",
    "invalid:non_browser",
    "invalid:data_centre",
    "invalid:activity",
    "invalid:no_impression",
]

_MARK: Final = "invalid:"


class Signs(NamedTuple):
    """What is known of who sends a beacon; `too_active` says more than a person could do, `vouched` a slot key."""

    prefetched: bool = False
    agent: Agent = "browser"
    in_data_centre: bool = False
    too_active: bool = False
    vouched: bool = False


def why_invalid(signs: Signs, *, only_browsers: bool) -> Invalid | None:
    """Return why a beacon is invalid, if it is; where a slot is shown in browsers alone, nothing else may report."""
    if signs.prefetched:
        return "invalid:prefetch"
    if signs.agent == "crawler":
        return "invalid:crawler"
    if signs.vouched:
        return None
    if only_browsers and signs.agent != "browser":
        return "invalid:non_browser"
    if signs.in_data_centre:
        return "invalid:data_centre"
    return "invalid:activity" if signs.too_active else None


def is_invalid(reason: str | None) -> bool:
    """Tell whether the reason why a delivery was not billed is that it is invalid."""
    return reason is not None and reason.startswith(_MARK)
