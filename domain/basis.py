"""What a decision knew that does not follow from the log: it travels in its tickets, and is recorded in the end."""

from uuid import UUID

from msgspec import Struct

from domain.values import Audience, DeviceType, RatingSystem


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request said besides country, region and city, as far as any campaign or rule went by it."""

    zip: str | None = None
    utcoffset: int | None = None
    keywords: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    language: str | None = None
    device: DeviceType | None = None
    domain: str | None = None
    key_values: dict[str, tuple[str, ...]] = {}
    max_rating: Audience | None = None
    rating_system: RatingSystem | None = None
    rating_label: str | None = None
    coppa: bool = False
    blocked_advertisers: tuple[UUID, ...] = ()
    blocked_creatives: tuple[UUID, ...] = ()
    blocked_categories: tuple[str, ...] = ()


class Basis(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision knew: the log up to a position, what the request said, and whom the moment kept out.

    `late_seconds` is by how much it was later than its id. `out` holds, by situation, the numbers in the lineup of
    those of the ranks up to the chosen one's. Where all that was too much, nothing can be said later: it is `cut`.
    """

    position: int
    late_seconds: int = 0
    urgency: int = 1
    out: dict[str, tuple[int, ...]] = {}
    facts: Facts | None = None
    cut: bool = False
