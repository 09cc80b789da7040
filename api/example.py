"""The example that the demo sets up: who advertises what, where it is shown, and who comes to see it.

Dates are fixed, so that what is set up is the same on every day, and asking for it again changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, NamedTuple

VISITS: Final = 1_700
"""About 3,400 impressions: enough for a report to show a day, few enough for a first start."""

VISITS_PER_SECOND: Final = 2.0
BREAKS_PER_VISIT: Final = 1 / 60
VIEWERS: Final = 900

SHOWN: Final = 0.96
SEEN: Final = 0.68
CLICKED: Final = 0.02
"""How many of the decided creatives are shown, of the shown ones seen, and of the seen ones clicked."""

SEEN_AFTER: Final = timedelta(seconds=2)
CLICKED_AFTER: Final = timedelta(seconds=9)

Terms = Mapping[str, Any]


class Plan(NamedTuple):
    """A campaign, and what is done to it: before the day's traffic, in the middle of it, and after it."""

    advertiser: str
    terms: Terms
    before: tuple[str, ...] = ("activate",)
    midway: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where visitors come from, and how many compared with other places."""

    country: str
    region: str
    city: str
    weight: int


class Visit(NamedTuple):
    """Somebody opens a page, which shows some of the slots; `luck` decides what becomes of each."""

    viewer: str
    place: Place
    slots: tuple[str, ...]
    luck: tuple[tuple[float, float, float], ...]


SLOTS: Final[Sequence[Terms]] = (
    {"name": "Front page top", "ad_type": "top_bar_ad", "width": 728, "height": 90},
    {"name": "Article side", "ad_type": "center_right_content_ad", "width": 300, "height": 250},
    {"name": "Archive column", "ad_type": "center_left_content_ad", "width": 160, "height": 600},
    {"name": "Radio break", "ad_type": "bottom_center_ad", "media_types": ["audio"]},
)
RADIO: Final = "Radio break"
SPOTS: Final[Mapping[str, Sequence[int]]] = {"House blend": (10, 20, 30), "Weekend fares": (20, 30)}
"""How many seconds the spots of a campaign have, if it has some beside its pictures."""

PAGES: Final = (
    ("Front page top", "Article side"),
    ("Front page top", "Article side", "Archive column"),
    ("Article side",),
    ("Article side", "Archive column"),
)

ADVERTISERS: Final[Sequence[Terms]] = (
    {"name": "Marlow Tea", "company_name": "Marlow Tea Traders Ltd", "email": "ads@marlow-tea.example"},
    {"name": "Alder and Finch", "company_name": "Alder and Finch Bicycles GmbH", "phone": "+49 30 5550 0100"},
    {"name": "Kestrel Rail", "company_name": "Kestrel Rail AS", "email": "media@kestrel-rail.example"},
)


def _eur(amount: float) -> int:
    return round(amount * 1_000_000)


def _campaign(name: str, model: str, price: float, **terms: Any) -> Terms:  # noqa: ANN401  fields of a JSON body
    pricing = {"model": model, "price_micros": _eur(price)}
    return {"name": name, "start_date": "2024-01-01", "currency": "EUR", "pricing": pricing, **terms}


CAMPAIGNS: Final = (
    Plan("Marlow Tea", _campaign("House blend", "cpm", 1.20, priority=5)),
    Plan(
        "Marlow Tea",
        _campaign(
            "Winter blends",
            "cpm",
            4.50,
            budget_micros=_eur(400),
            daily_budget_micros=_eur(60),
            max_view_count=6,
            max_view_duration={"value": 1, "unit": "day"},
            keywords=["tea", "winter"],
        ),
    ),
    Plan("Marlow Tea", _campaign("Spring harvest", "cpm", 5.00, start_date="2039-03-01", end_date="2039-05-31"), ()),
    Plan(
        "Alder and Finch",
        _campaign(
            "City bikes",
            "cpc",
            0.35,
            budget_micros=_eur(250),
            pacing="even",
            targeting=[{"country": country} for country in ("DE", "AT", "CH", "NL")],
        ),
    ),
    Plan("Alder and Finch", _campaign("Bells and lights", "cpm", 2.40, budget_micros=_eur(150)), midway=("pause",)),
    Plan("Alder and Finch", _campaign("Autumn ride-out", "cpm", 3.00, impression_budget=5_000), after=("complete",)),
    Plan(
        # The day leaves about a tenth of the budget to the visitors that follow.
        "Kestrel Rail",
        _campaign("Fjord line", "cpm", 9.00, priority=1, budget_micros=_eur(1.60), targeting=[{"country": "NO"}]),
    ),
    Plan("Kestrel Rail", _campaign("Night trains", "flat", 900.00, targeting=[{"country": "FR", "region": "FR-IDF"}])),
    Plan("Kestrel Rail", _campaign("Weekend fares", "cpm", 14.00, impression_budget=50_000)),
    Plan(
        # Nothing is done to it: the clock finds its expiry date in the past.
        "Kestrel Rail",
        _campaign("Summer pass", "cpm", 6.00, start_date="2024-06-01", end_date="2024-08-31", expiry_date="2024-09-30"),
        before=(),
    ),
)
LAST: Final = "Autumn ride-out"
"""Its completion is the last thing that is set up."""

REVIEWS: Final[Mapping[str, tuple[tuple[str, Terms], ...]]] = {
    "Winter blends": (("submit", {}),),
    "City bikes": (("submit", {}), ("deny", {"reason": "The claim to be the fastest bicycle in town needs a source."})),
    "Spring harvest": (),
}
"""Campaigns that have one more creative, and what its review has come to."""

PLACES: Final = (
    Place("DE", "DE-BE", "Berlin", 17),
    Place("DE", "DE-BY", "Munich", 12),
    Place("FR", "FR-IDF", "Paris", 14),
    Place("GB", "GB-LND", "London", 15),
    Place("NL", "NL-NH", "Amsterdam", 9),
    Place("ES", "ES-MD", "Madrid", 8),
    Place("AT", "AT-9", "Vienna", 7),
    Place("US", "US-NY", "New York", 7),
    Place("CH", "CH-ZH", "Zurich", 6),
    Place("NO", "NO-03", "Oslo", 5),
)

BY_HOUR: Final = (2, 1, 1, 1, 2, 4, 8, 12, 14, 13, 12, 13, 15, 14, 12, 12, 13, 16, 20, 23, 22, 17, 10, 5)
"""How busy each hour (UTC) of a day is."""


def creatives_of(campaign: Terms) -> Iterator[Terms]:
    """Yield the creatives of a campaign, without its id: one for each slot that shows pictures, and its spots."""
    name = campaign["name"]
    site = f"https://{name.lower().replace(' ', '-')}.example"
    rated = {"rating_system": "IAB", "rating_label": "1", "no_prohibited_content": True}
    for slot in SLOTS:
        if slot["name"] != RADIO:
            width, height = slot["width"], slot["height"]
            yield {
                "name": f"{name} {width}x{height}",
                "ad_type": slot["ad_type"],
                "media_type": "image",
                "media_url": f"{site}/{width}x{height}.png",
                "width": width,
                "height": height,
                "alt_text": name,
                "click_url": f"{site}/?from={width}x{height}",
                "content_rating": rated,
            }
    for seconds in SPOTS.get(name, ()):
        yield {
            "name": f"{name} {seconds} s",
            "ad_type": "bottom_center_ad",
            "media_type": "audio",
            "media_url": f"{site}/{seconds}.mp3",
            "mime_type": "audio/mpeg",
            "bit_rate_kbps": 128,
            "duration_seconds": seconds,
            "click_url": f"{site}/?from=radio",
            "content_rating": rated,
        }


def visits(random: Random) -> Iterator[Visit]:
    """Yield visits for ever; viewers come back, some more often than others."""
    while True:
        number = int(VIEWERS * random.random() ** 2)
        slots = random.choices(PAGES, (5, 2, 6, 3))[0]
        yield Visit(
            viewer=f"viewer-{number}",
            # Everybody lives in one place.
            place=Random(number).choices(PLACES, [place.weight for place in PLACES])[0],
            slots=slots,
            luck=tuple((random.random(), random.random(), random.random()) for _ in slots),
        )


def day(random: Random, now: datetime) -> list[tuple[datetime, Visit]]:
    """Return the visits of the 24 hours up to now, oldest first, with their times."""
    minutes = range(1, 24 * 60)
    weights = [BY_HOUR[(now - timedelta(minutes=ago)).hour] for ago in minutes]
    times = [
        now - timedelta(minutes=ago, seconds=random.uniform(0, 59))
        for ago in random.choices(minutes, weights, k=VISITS)
    ]
    return list(zip(sorted(times), visits(random), strict=False))


def breaks(random: Random, now: datetime) -> list[tuple[datetime, float]]:
    """Return when the radio of the 24 hours up to now had a break, oldest first, and how much of each was heard."""
    whole_hours = (now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=ago) for ago in range(23, 0, -1))
    return [(at, min(1.0, random.expovariate(1 / 2))) for at in whole_hours]


def beacons_of(luck: tuple[float, float, float], at: datetime) -> Iterator[tuple[str, datetime]]:
    """Yield what becomes of a creative that was decided on: its impression, view and click, with their times."""
    shown, seen, clicked = luck
    if shown < SHOWN:
        yield "impression_url", at
        if seen < SEEN:
            yield "view_url", at + SEEN_AFTER
            if clicked < CLICKED:
                yield "click_url", at + CLICKED_AFTER
