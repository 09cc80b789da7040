"""Pages: the placements of one request are filled together, with what their worker may promise."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import structs

from api.answers import (
    CLICK_PATH,
    FRAME_PATH,
    IMPRESSION_PATH,
    MEDIA_PATH,
    VIEW_PATH,
    Ad,
    NoBidReason,
    PlacementDecision,
)
from api.open_ledgers import OpenLedger
from api.promises import Promise, Promises, Refused
from api.services import Services
from domain.ad_request import AdRequest, Placement, may_identify
from domain.basis import Basis
from domain.choosing import Candidate, Lineup, Snapshot, eligible, of_subjects, rivals
from domain.delivery import Ticket
from domain.drawing import bitset
from domain.errors import UnknownRating, UnknownReference
from domain.explanation import basis_of, kept, second_of
from domain.iso import alpha_2
from domain.pacing import passes
from domain.pages import Opening, Page, Seat, fill
from domain.pods import Pod, is_filled
from domain.pods import fill as in_pod
from domain.rating import is_known
from domain.terms import SlotTerms
from infra import clock, metrics
from infra.devices import device_type_of
from infra.ledger_keys import draw

OFFERED_PER_POD_MAX: Final = 40
"""How many creatives are looked at to fill a pod."""

_NOT_DRAWN: Final = UUID(int=0)


class Wish(NamedTuple):
    """What a placement takes of what its slot does, and the pod that it makes of it, if it is one."""

    admits: Callable[[Candidate], bool]
    pod: Pod | None = None


class Rehearsed(NamedTuple):
    """What a placement would get, and what was known when each creative, or none, was chosen."""

    placement: Placement
    no_bid_reason: NoBidReason | None
    known: list[tuple[UUID | None, Basis]]


class Asked:
    """A placement while its page is filled: what it asks for, what it got, and what kept others out of it."""

    __slots__ = ("bits", "capped", "drawn", "lineup", "paced", "placement", "slot", "sold_out", "taken", "wish")

    def __init__(self, placement: Placement, slot: SlotTerms, lineup: Lineup, wish: Wish | None) -> None:
        """Begin with nothing."""
        self.placement = placement
        self.slot = slot
        self.lineup = lineup
        self.wish = wish
        self.bits = 0
        self.capped = 0
        self.sold_out = 0
        self.paced = False
        self.drawn = 0
        self.taken: list[Promise] = []

    def opening(self) -> Opening:
        """Return the places that it has on the page; those of a pod show whatever fills it."""
        if self.wish is None:
            return Opening(self.placement, self.placement.count, self.lineup, self.bits)
        if self.wish.pod is None:
            return Opening(self.placement, self.placement.count, self.lineup, self.bits, self.wish.admits)
        without_roadblocks = self.bits & ~self.lineup.roadblocks
        return Opening(self.placement, OFFERED_PER_POD_MAX, self.lineup, without_roadblocks, self.wish.admits)

    def wanted(self) -> int:
        """Return how many creatives it asks for; of a pod that is not full, one more than it got."""
        if self.wish is None or self.wish.pod is None:
            return self.placement.count
        seconds = [taken.candidate.creative.duration_seconds for taken in self.taken]
        return len(self.taken) + (not is_filled(self.wish.pod, seconds))

    def keep_out(self, candidate: Candidate, refused: Refused) -> None:
        """Note why a candidate could not be promised."""
        if refused == "paced":
            self.paced = True
        elif refused == "frequency_capped":
            self.capped |= self.lineup.by_creative[candidate.creative_id]
        else:
            self.sold_out |= self.lineup.by_creative[candidate.creative_id]


class Filling:
    """The placements of one request, while they are filled and when they are."""

    def __init__(
        self,
        services: Services,
        ledger: OpenLedger,
        request: AdRequest,
        base_url: str,
        wishes: Mapping[str, Wish] = MappingProxyType({}),
    ) -> None:
        """Raise UnknownReference when one of their slots is not active, and UnknownRating."""
        self._ledger = ledger
        self._serving = ledger.serving
        self._snapshot = ledger.serving.snapshot
        self._request = request = _completed(request, self._snapshot)
        self._base_url = base_url
        # A wall clock that was set back must not stamp promises that the log would take for expired.
        self.now = max(clock.now(), services.log.writer.recorded_at)
        self._second = int(self.now.timestamp())
        self._country = request.geo.country and alpha_2(request.geo.country)
        viewer = request.viewer.id if may_identify(request) else None
        self._viewer = viewer and ledger.pseudonyms.name(viewer, self._second)
        look_back = self._snapshot.cap_seconds_max
        self._earlier = ledger.pseudonyms.earlier(viewer, self._second, seconds=look_back) if viewer else None
        self._promises = Promises(
            self._serving,
            self._viewer,
            earlier=self._earlier,
            second=self._second,
            tick=monotonic(),
            test=request.test,
        )
        self._decision_id = _NOT_DRAWN
        self._taken = 0
        # All of them before anything is held for any.
        self._asked = [
            self._asked_for(number, placement, wishes.get(placement.id))
            for number, placement in enumerate(request.placements)
        ]

    def fill(self) -> None:
        """Fill the placements, and make the best of what pods were offered."""
        enough = self._promises.seen_enough()
        for asked in self._asked:
            self._find(asked, enough)
        page = Page(
            snapshot=self._snapshot,
            openings=[asked.opening() for asked in self._asked],
            now=self.now,
            minutes_ahead=self._request.geo.utcoffset,
        )
        fill(page, self._draw, self._take)
        for asked in self._asked:
            if asked.wish is not None and asked.wish.pod is not None:
                self._fill_pod(asked, asked.wish.pod)

    def decided(self) -> list[PlacementDecision]:
        """Return what each placement gets, signed and counted."""
        return [self._decided(asked) for asked in self._asked]

    def rehearsed(self) -> list[Rehearsed]:
        """Return what each placement would get, and give all of it back."""
        found = [
            Rehearsed(
                asked.placement,
                self._why_not(asked) if len(asked.taken) < asked.placement.count else None,
                [(taken.candidate.creative_id, self._basis(asked, taken)) for taken in asked.taken]
                or [(None, self._basis(asked, None))],
            )
            for asked in self._asked
        ]
        for asked in self._asked:
            for taken in asked.taken:
                self._promises.give_back(taken)
        return found

    def _asked_for(self, number: int, placement: Placement, wish: Wish | None) -> Asked:
        slot = self._snapshot.slots.get(placement.slot_id)
        if slot is None:
            raise UnknownReference("active slot", placement.slot_id, pointer=f"/placements/{number}/slot_id")
        return Asked(placement, slot, self._snapshot.lineups[placement.slot_id], wish)

    def _find(self, asked: Asked, enough: Collection[UUID]) -> None:
        """Find whom no rule keeps out of a placement, and of those, who is neither capped nor sold out."""
        slot_id = asked.placement.slot_id
        bits = eligible(self._snapshot, self._request, asked.placement)
        if enough:
            asked.capped = bits & of_subjects(self._snapshot, slot_id, enough)
            bits &= ~asked.capped
        if not self._request.test and (sold_out := self._serving.sold_out(slot_id)):
            asked.sold_out = bits & sold_out
            bits &= ~sold_out
        asked.bits = bits

    def _draw(self, number: int) -> int:
        """Return what a place is drawn with, which follows from the id of the decision that is made for it."""
        self._decision_id = clock.fresh_id()
        self._asked[number].drawn = drawn = draw(self._ledger.keys.draw, self._decision_id)
        return drawn

    def _take(self, seats: Sequence[Seat]) -> bool:
        wanted: list[Promise] = []
        for number, candidate in seats:
            decision_id = clock.fresh_id() if wanted else self._decision_id
            wanted.append(Promise(candidate, decision_id, self._asked[number].slot, self._taken + len(wanted)))
        refused = self._promises.take(wanted)
        if refused is not None:
            for number, candidate in seats:
                self._asked[number].keep_out(candidate, refused)
            return False
        self._taken += len(wanted)
        for (number, _), promise in zip(seats, wanted, strict=True):
            self._asked[number].taken.append(promise)
        return True

    def _fill_pod(self, asked: Asked, pod: Pod) -> None:
        """Leave a placement what fills its pod of what was taken for it, and give the rest back."""
        seconds = [taken.candidate.creative.duration_seconds or 0 for taken in asked.taken]
        shown = set(in_pod(seconds, pod))
        for number, taken in enumerate(asked.taken):
            if number not in shown:
                self._promises.give_back(taken)
        asked.taken = [asked.taken[number] for number in sorted(shown)]

    def _decided(self, asked: Asked) -> PlacementDecision:
        ads = [self._ad(asked, taken) for taken in asked.taken]
        wanted = asked.wanted()
        missing = wanted - len(ads)
        reason = self._why_not(asked) if missing else None
        if ads:
            metrics.decision_counter("filled").inc(len(ads))
        if reason is not None:
            metrics.decision_counter(reason).inc(missing)
        if not self._request.test:
            self._serving.tally.add(
                asked.placement.slot_id,
                self._country,
                second=self._second,
                asked=wanted,
                filled=len(ads),
                reason=reason,
            )
        return PlacementDecision(
            placement_id=asked.placement.id,
            ads=ads,
            no_bid_reason=reason,
            refresh_seconds=asked.slot.refresh_seconds,
            closable=asked.slot.closable,
        )

    def _why_not(self, asked: Asked) -> NoBidReason:
        """Return why a placement gets less than it asked for: what kept out those that came furthest."""
        if asked.sold_out:
            return "no_budget"
        if asked.paced or self._is_paced(asked):
            return "paced"
        return "frequency_capped" if asked.capped else "no_matching_creative"

    def _is_paced(self, asked: Asked) -> bool:
        """Tell whether the pace of any campaign kept it out."""
        return any(
            asked.bits & asked.lineup.by_campaign.get(campaign_id, 0) and not passes(pace, campaign_id.int, asked.drawn)
            for campaign_id, pace in self._snapshot.paces.items()
        )

    def _basis(self, asked: Asked, taken: Promise | None) -> Basis:
        """Return what was known when a placement got a creative, or nothing."""
        chosen = None if taken is None else taken.candidate
        out = {"frequency_capped": asked.capped, "no_budget": asked.sold_out}
        if asked.wish is not None:
            candidates, admits = asked.lineup.candidates, asked.wish.admits
            out["format"] = bitset([number for number, each in enumerate(candidates) if not admits(each)])
        if len(self._asked) > 1 or asked.placement.count > 1 or asked.wish is not None:
            out |= self._kept_apart(asked.lineup, chosen, self._taken if taken is None else taken.order)
        late_seconds = 0 if taken is None else self._second - second_of(taken.decision_id)
        return basis_of(self._snapshot, self._request, asked.lineup, chosen, out, late_seconds=late_seconds)

    def _kept_apart(self, lineup: Lineup, chosen: Candidate | None, order: int) -> dict[str, int]:
        """Return whom the rest of the page keeps out of a placement, as its first creatives have been taken."""
        shown = [each.candidate for asked in self._asked for each in asked.taken if each.order < order]
        on_page = rival = 0
        for each in shown:
            on_page |= lineup.by_creative.get(each.creative_id, 0)
            rival |= rivals(lineup, each.campaign_id, each.campaign)
        own = 0 if chosen is None else lineup.by_campaign[chosen.campaign_id]
        return {"on_page": on_page, "rival_on_page": rival, "roadblock": lineup.roadblocks & ~own}

    def _ad(self, asked: Asked, taken: Promise) -> Ad:
        """Return a creative with its signed tokens."""
        candidate, decision_id, slot, _ = taken
        creative, campaign = candidate.creative, candidate.campaign
        impression, view, click = self._ledger.beacon_tokens.sign_all(
            Ticket(
                decision_id=decision_id,
                campaign_id=candidate.campaign_id,
                creative_id=candidate.creative_id,
                advertiser_id=campaign.advertiser_id,
                slot_id=asked.placement.slot_id,
                country=self._country,
                region=self._request.geo.region,
                city=self._request.geo.city,
                viewer=self._viewer,
                expires_at=self._second + slot.token_seconds,
                hold_expires_at=self._second + slot.hold_seconds,
                worker=self._serving.holds.worker if candidate.limited else 0,
                pricing=campaign.pricing,
                currency=campaign.currency,
                test=self._request.test,
                campaign_cap=candidate.campaign_cap if self._viewer else None,
                creative_cap=candidate.creative_cap if self._viewer else None,
                earlier=self._earlier if candidate.campaign_cap or candidate.creative_cap else None,
            ),
            kept(self._basis(asked, taken)),
        )
        return Ad(
            decision_id=decision_id,
            campaign_id=candidate.campaign_id,
            creative_id=candidate.creative_id,
            advertiser_id=campaign.advertiser_id,
            media_type=creative.media_type,
            media_url=creative.media_url
            if creative.media_file is None
            else f"{self._base_url}{MEDIA_PATH}{creative.media_file}",
            media_content=creative.media_content,
            warning_required=creative.content_rating.warning_required,
            content_warnings=creative.content_rating.content_warnings,
            width=creative.width,
            height=creative.height,
            alt_text=creative.alt_text,
            impression_url=f"{self._base_url}{IMPRESSION_PATH}{impression}",
            view_url=f"{self._base_url}{VIEW_PATH}{view}",
            click_url=f"{self._base_url}{CLICK_PATH}{click}",
            hold_expires_at=datetime.fromtimestamp(self._second + slot.hold_seconds, UTC),
            expires_at=datetime.fromtimestamp(self._second + slot.token_seconds, UTC),
            frame_url=f"{self._base_url}{FRAME_PATH}{click}" if creative.media_type == "html" else None,
        )


def _completed(request: AdRequest, snapshot: Snapshot) -> AdRequest:
    """Return a request with the kind of device that its User-Agent names, where anybody asks; raise UnknownRating."""
    if not is_known(request.content):
        raise UnknownRating("The rating label is not one of its rating system's.", pointer="/content/rating_label")
    device = request.device
    if not snapshot.asks_for_devices or device.type is not None or device.ua is None:
        return request
    return structs.replace(request, device=structs.replace(device, type=device_type_of(device.ua)))
