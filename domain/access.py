"""What is recorded of people and keys: the part of the catalogue of events that says who was let in, and to what.

Their streams are named after whom or what they are about; people are ids, without name or address. No command is
decided on these streams, and no read model of the business reads them.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

SessionEnd = Literal["signed_out", "ended_by_owner", "token_reused"]
ExportKind = Literal["log", "report", "personal_data"]
RefusalKind = Literal["sign_in_refused", "access_denied"]


class AccessRecorded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What these events have in common: the network from which it was done, where that is known."""

    network: str = ""


class SignedIn(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="signed_in"):
    """A person began a session: with a password or through a provider, and perhaps with a second factor."""

    session_id: UUID
    method: str = "password"
    second_factor: bool = False


class SessionsEnded(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="sessions_ended"):
    """A session of a person has ended, or, where none is named, all but the one in which that was asked for."""

    reason: SessionEnd
    session_id: UUID | None = None


class PersonAdded(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="person_added"):
    """Somebody may sign in from now on, in a role, and perhaps for some advertisers alone."""

    role: str
    advertiser_ids: tuple[UUID, ...] = ()


class InvitationSent(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="invitation_sent"):
    """Somebody was mailed, perhaps again, that they may join in a role."""

    role: str
    advertiser_ids: tuple[UUID, ...] = ()


class InvitationWithdrawn(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="invitation_withdrawn"):
    """What was mailed to somebody lets nobody join any more."""


class InvitationAccepted(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="invitation_accepted"):
    """Whoever read the mail has joined, as the actor of this."""


class RoleChanged(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="role_changed"):
    """A person may do other things than before."""

    role: str
    earlier: str
    advertiser_ids: tuple[UUID, ...] = ()


class PersonDeactivated(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="person_deactivated"):
    """A person cannot sign in any more, and all their sessions have ended."""


class PersonReactivated(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="person_reactivated"):
    """A person may sign in again."""


class PasswordChanged(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="password_changed"):
    """A person has another password, which ended their other sessions; they knew the one before, or got a letter."""

    method: str = "password"


class EmailChanged(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="email_changed"):
    """A person signs in with another e-mail address, whose mail they have shown that they read."""


class ProviderLinked(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="provider_linked"):
    """A person signed in through a provider of OpenID Connect for the first time, and can go on doing so."""

    issuer: str


class ProviderUnlinked(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="provider_unlinked"):
    """Whom a person is at a provider is forgotten."""

    issuer: str


class SecondFactorEnabled(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="second_factor_enabled"):
    """From now on, signing in takes a one-time password of the person as well."""


class SecondFactorDisabled(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="second_factor_disabled"):
    """Signing in takes no one-time password of the person any more."""


class SecondFactorPolicySet(
    AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="second_factor_policy_set"
):
    """From now on an organisation demands a second factor of its people, or does not any more."""

    demanded: bool


class ApiKeyIssued(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="api_key_issued"):
    """A key was made with which a program may do what a role may, or as much of it as its scopes say."""

    role: str
    expires_at: datetime | None = None
    advertiser_ids: tuple[UUID, ...] = ()
    scopes: tuple[str, ...] | None = None


class ApiKeyRevoked(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="api_key_revoked"):
    """A program's key is no longer valid."""


class WebhookSecretIssued(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="webhook_secret_issued"):
    """A webhook was added, with a secret that signs what it is told."""


class WebhookDeleted(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="webhook_deleted"):
    """A webhook is told nothing more, and its secret is gone."""


class Exported(AccessRecorded, frozen=True, kw_only=True, omit_defaults=True, tag="exported"):
    """Somebody took the log with them, reports as a file, or all that is held about a person."""

    what: ExportKind


class RefusalTally(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often somebody was refused, from a network and for a reason: at signing in, or at an operation.

    `actor` is as whom it was tried; there is none in a line of those for whom there was no room.
    """

    kind: RefusalKind
    actor: str = ""
    reason: str = ""
    network: str = ""
    count: int


class AccessRefused(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="access_refused"):
    """Whom one worker refused since a time."""

    since: datetime
    lines: tuple[RefusalTally, ...]


PersonEvent = (
    PersonAdded
    | RoleChanged
    | PersonDeactivated
    | PersonReactivated
    | PasswordChanged
    | EmailChanged
    | ProviderLinked
    | ProviderUnlinked
    | SecondFactorEnabled
    | SecondFactorDisabled
)
AccessChange = (
    SignedIn
    | SessionsEnded
    | PersonEvent
    | SecondFactorPolicySet
    | InvitationSent
    | InvitationWithdrawn
    | InvitationAccepted
    | ApiKeyIssued
    | ApiKeyRevoked
    | WebhookSecretIssued
    | WebhookDeleted
    | Exported
)
AccessEvent = AccessChange | AccessRefused
