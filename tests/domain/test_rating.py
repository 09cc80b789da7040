"""Ratings: which labels exist, and whom a rated creative is for."""

from typing import get_args, get_type_hints

import pytest

from domain.rating import LABELS, audience_of, is_known, is_within
from domain.values import AUDIENCES, Audience, ContentRating, RatingSystem


def test_every_rating_system_has_labels() -> None:
    """There is a table of labels for each rating system a creative may name, each label for one known audience."""
    systems = {word for kind in get_args(get_type_hints(ContentRating)["rating_system"]) for word in get_args(kind)}
    assert LABELS.keys() == systems
    assert {audience for labels in LABELS.values() for audience in labels.values()} == set(AUDIENCES)


def test_labels_of_a_system_are_known_with_their_audience() -> None:
    """A label counts in its own system, and says whom the creative is for."""
    for system, labels in LABELS.items():
        for label, audience in labels.items():
            rating = ContentRating(rating_system=system, rating_label=label)
            assert is_known(rating)
            assert audience_of(rating) == audience


@pytest.mark.parametrize(
    "rating",
    [
        ContentRating(rating_system="MPAA", rating_label="12"),
        ContentRating(rating_system="PEGI", rating_label="PG"),
        ContentRating(rating_system="ESRB", rating_label="e"),
        ContentRating(rating_label="12"),
    ],
)
def test_labels_of_no_system_or_another_are_unknown(rating: ContentRating) -> None:
    """A label without a system, or of another one, says nothing."""
    assert not is_known(rating)


@pytest.mark.parametrize("rating", [ContentRating(), ContentRating(rating_system="MPAA")])
def test_what_nobody_rated_is_for_the_narrowest_audience(rating: ContentRating) -> None:
    """A creative without a label may be entered, and is shown only where everything may be shown."""
    assert is_known(rating)
    assert audience_of(rating) == "mature"


@pytest.mark.parametrize(
    ("system", "label", "audience"),
    [
        ("MPAA", "PG-13", "over_12"),
        ("TV_PG", "TV-MA", "mature"),
        ("PEGI", "7", "all_audiences"),
        ("ESRB", "T", "over_12"),
        ("IAB", "1", "all_audiences"),
    ],
)
def test_the_systems_share_one_scale(system: RatingSystem, label: str, audience: Audience) -> None:
    """Labels of different systems are compared by the audience they name."""
    assert LABELS[system][label] == audience


@pytest.mark.parametrize(
    ("mine", "limit", "fits"),
    [
        (("ESRB", "M"), ("ESRB", "M"), True),
        (("ESRB", "AO"), ("ESRB", "M"), False),
        (("TV_PG", "TV-Y7"), ("TV_PG", "TV-Y"), False),
        (("TV_PG", "TV-Y7"), ("PEGI", "3"), True),
        (("MPAA", "PG-13"), ("PEGI", "12"), True),
        (("MPAA", "R"), ("PEGI", "12"), False),
        (("ESRB", None), ("IAB", "2"), False),
        ((None, None), ("IAB", "3"), True),
    ],
)
def test_a_label_is_a_limit_by_its_own_scale_or_by_audience(
    mine: tuple[RatingSystem | None, str | None], limit: tuple[RatingSystem, str], fits: bool
) -> None:
    """Within a system its own order counts, between two systems the audiences that their labels stand for."""
    assert is_within(ContentRating(rating_system=mine[0], rating_label=mine[1]), *limit) == fits
