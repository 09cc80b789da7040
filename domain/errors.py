"""Refusals: what the domain says no to, each with a stable code; a docstring is the message's first line."""

from typing import ClassVar, Literal

Kind = Literal["forbidden", "missing", "conflict", "precondition", "rule"]


class Refusal(Exception):
    """A command that the domain does not carry out."""

    kind: ClassVar[Kind] = "rule"
    code: ClassVar[str] = "refused"

    def __init__(self, detail: str, *, pointer: str | None = None) -> None:
        """Say why, in a sentence, and where in the body (a JSON pointer, RFC 6901)."""
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class NotFound(Refusal):
    """There is no such thing in this ledger."""

    kind = "missing"
    code = "not_found"

    def __init__(self, thing: str, thing_id: object) -> None:
        """Name the kind of thing and the id that was asked for."""
        super().__init__(f"There is no {thing} {thing_id} in this ledger.")


class NotAllowed(Refusal):
    """The credentials do not allow this, of what they allow in general."""

    kind = "forbidden"
    code = "not_allowed"


class SecondPersonNeeded(Refusal):
    """Whoever asked for a budget cannot confirm it, and nor can a program of theirs."""

    kind = "forbidden"
    code = "second_person_needed"


class NothingAsked(Refusal):
    """The request has been answered, or another one has taken its place."""

    kind = "conflict"
    code = "nothing_asked"


class UnknownReference(Refusal):
    """The body names a thing that this ledger does not have."""

    code = "unknown_reference"

    def __init__(self, thing: str, thing_id: object, *, pointer: str) -> None:
        """Name the kind of thing, the id, and the field that holds it."""
        super().__init__(f"There is no {thing} {thing_id} in this ledger.", pointer=pointer)


class AlreadyExists(Refusal):
    """The stream has already begun."""

    kind = "conflict"
    code = "already_exists"


class WrongState(Refusal):
    """The life cycle does not allow this step from where the thing stands."""

    kind = "conflict"
    code = "wrong_state"

    def __init__(self, thing: str, status: str, step: str) -> None:
        """Name the thing, its status and the step that was asked for."""
        super().__init__(f"A {thing} that is {status} cannot be asked to {step}.")


class VersionConflict(Refusal):
    """The stream moved on while the command was being decided."""

    kind = "conflict"
    code = "version_conflict"

    def __init__(self, stream: str, expected: int) -> None:
        """Name the stream and the version that was expected."""
        super().__init__(f"{stream} is no longer at version {expected}; read it again and retry.")


class PreconditionFailed(Refusal):
    """The version in If-Match is not the current one."""

    kind = "precondition"
    code = "precondition_failed"

    def __init__(self, expected: int, actual: int) -> None:
        """Name the version asked for and the one that is."""
        super().__init__(f"If-Match asks for version {expected}, but the current version is {actual}.")


class IdempotencyKeyReused(Refusal):
    """The idempotency key was used before with another request."""

    code = "idempotency_key_reused"


class UnknownTimeZone(Refusal):
    """The IANA database has no such time zone."""

    code = "unknown_time_zone"


class UnknownCurrency(Refusal):
    """ISO 4217 has no such currency."""

    code = "unknown_currency"


class UnknownCountry(Refusal):
    """ISO 3166-1 has no such country."""

    code = "unknown_country"


class DateOutOfRange(Refusal):
    """The date lies too far in the past or in the future."""

    code = "date_out_of_range"


class DatesOutOfOrder(Refusal):
    """The dates do not follow one another."""

    code = "dates_out_of_order"


class PriceNotWhole(Refusal):
    """One impression would not cost a whole number of micros."""

    code = "price_not_whole"


class LimitsInconsistent(Refusal):
    """Two limits contradict each other."""

    code = "limits_inconsistent"


class BudgetBelowSpent(Refusal):
    """A budget cannot be lowered below what is spent and held."""

    code = "budget_below_spent"


class FundsOutOfRange(Refusal):
    """What an advertiser's funds hold after a deposit or withdrawal would be impossible."""

    code = "funds_out_of_range"


class CurrencyDiffers(Refusal):
    """The advertiser's funds are in another currency."""

    code = "currency_differs"


class TargetingTooWide(Refusal):
    """The targeting names too many combinations of places."""

    code = "targeting_too_wide"


class TargetEmpty(Refusal):
    """A place to be left out has to name one."""

    code = "target_empty"


class TargetingContradictory(Refusal):
    """What is asked for on one side is ruled out on the other."""

    code = "targeting_contradictory"


class PostcodeMalformed(Refusal):
    """An asterisk stands at the end of a postcode, after the beginning that counts."""

    code = "postcode_malformed"


class FieldFixed(Refusal):
    """The field cannot change any more."""

    kind = "conflict"
    code = "field_fixed"


class MediaIncomplete(Refusal):
    """The creative's media is not described the way its media type needs."""

    code = "media_incomplete"


class ImageMalformed(Refusal):
    """The file is not an image of a kind that is taken, or cannot be decoded."""

    code = "image_malformed"


class ImageMislabelled(Refusal):
    """The file is another kind of image than it is said to be."""

    code = "image_mislabelled"


class ImageTooLarge(Refusal):
    """The image has more pixels or frames than is taken."""

    code = "image_too_large"


class ImageUnfit(Refusal):
    """The image does not have the dimensions of its creative."""

    code = "image_unfit"


class NotApproved(Refusal):
    """Only an approved creative can be shown."""

    kind = "conflict"
    code = "not_approved"


class ContentNotAffirmed(Refusal):
    """Nobody has affirmed that the creative has no prohibited content."""

    kind = "conflict"
    code = "content_not_affirmed"


class UnknownRating(Refusal):
    """The rating system has no such label."""

    code = "unknown_rating"


class TooManyKeys(Refusal):
    """A slot has at most two valid keys."""

    kind = "conflict"
    code = "too_many_keys"


class TimeClaimRefused(Refusal):
    """The claimed time of a beacon lies in the future."""

    code = "time_in_future"


class LegalHoldStands(Refusal):
    """Nothing is erased while a legal hold stands."""

    kind = "conflict"
    code = "legal_hold"
