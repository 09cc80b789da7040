"""Content ratings: the labels of each rating system on one scale, AdCOM 1.0 'Media Ratings'."""

from collections.abc import Mapping
from typing import Final

from domain.ad_request import Content
from domain.values import AUDIENCES, Audience, ContentRating, RatingSystem

LABELS: Final[Mapping[RatingSystem, Mapping[str, Audience]]] = {
    "MPAA": {
        "G": "all_audiences",
        "PG": "all_audiences",
        "PG-13": "over_12",
        "R": "mature",
        "NC-17": "mature",
    },
    "TV_PG": {
        "TV-Y": "all_audiences",
        "TV-Y7": "all_audiences",
        "TV-G": "all_audiences",
        "TV-PG": "over_12",
        "TV-14": "over_12",
        "TV-MA": "mature",
    },
    "PEGI": {"3": "all_audiences", "7": "all_audiences", "12": "over_12", "16": "mature", "18": "mature"},
    "ESRB": {"E": "all_audiences", "E10+": "all_audiences", "T": "over_12", "M": "mature", "AO": "mature"},
    "IAB": {"1": "all_audiences", "2": "over_12", "3": "mature"},
}
"""The labels of each system from the widest audience to the narrowest, with the audience of each."""


def is_known(rating: ContentRating | Content) -> bool:
    """Tell whether the rating of a creative or a page has either no label or a label of its system."""
    if rating.rating_label is None:
        return True
    return rating.rating_system is not None and rating.rating_label in LABELS[rating.rating_system]


def is_within(rating: ContentRating, system: RatingSystem, label: str) -> bool:
    """Tell whether a creative is rated no stricter than a label: by the scale of its system, or else by audience."""
    if rating.rating_system == system and rating.rating_label is not None:
        scale = list(LABELS[system])
        return scale.index(rating.rating_label) <= scale.index(label)
    return AUDIENCES.index(audience_of(rating)) <= AUDIENCES.index(LABELS[system][label])


def audience_of(rating: ContentRating) -> Audience:
    """Return who may see a creative; what nobody has rated is for the narrowest audience."""
    if rating.rating_system is None or rating.rating_label is None:
        return AUDIENCES[-1]
    return LABELS[rating.rating_system][rating.rating_label]
