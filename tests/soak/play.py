"""One play against the nodes: an advertiser's campaigns, slots of a format of their own, and what was asked so far.

Every step asks the service for something, reads the log, and raises Wrong unless exactly what follows from it is there.
"""

import base64
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

import msgspec

from domain.delivery import Ticket
from tests.soak.book import INVALID, LIMITS, Entry, Thing, name_of
from tests.soak.stage import Asked, How, Promise, Stage
from tests.soak.verdicts import BELOW_SPENT, REUSED, STALE, Verdict, is_flying, is_over, made
from tests.soak.wrong import Wrong

SETTLE_SECONDS_MAX: Final = 8.0
MAC_BYTES: Final = 16
BY_THEMSELVES: Final = ("clock", "sealer")
"""Who appends without being asked."""

LETTERS: Final = {"impression": "i", "view": "v", "click": "c"}
CRAWLER: Final = {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}
TARGET: Final = "https://shop.example/"


class Play:
    """An advertiser, its campaigns and creatives, two slots, and all that was promised."""

    def __init__(self, stage: Stage) -> None:
        """Set up an advertiser and its slots: promises of the second are soon over."""
        self.stage = stage
        self.book = stage.book
        self.asked: list[Asked] = []
        self.promises: list[Promise] = []
        self.campaigns: list[str] = []
        self.creatives: list[str] = []
        stage.plays += 1
        self.size = {"width": 1 + stage.plays % 10_000, "height": 50}
        if stage.clock.can_be_set and stage.clock.now() < self.book.recorded_at:
            # Time in the log does not go back, and a play in which it stands still would see little.
            stage.step_clock(int((self.book.recorded_at - stage.clock.now()).total_seconds()) + 2)
        self.nothing_happened()
        self.advertiser = self.make("advertiser", {"name": f"Advertiser {stage.plays}"})
        terms = {"name": "Slot", "ad_type": "top_bar_ad", **self.size}
        self.slots = [
            self.make("slot", {**terms, **fields}) for fields in ({}, {"hold_seconds": 2, "token_seconds": 3_600})
        ]
        key = self.keyed(self.slots[0])
        self.ads = [each.client(headers={"Authorization": f"Bearer {key}"}) for each in stage.nodes.services]
        self._until(
            lambda: all(client.get("/ads/v1/slots").status_code == 200 for client in self.ads), "a key is not heard of"
        )

    def close(self) -> None:
        """Let go of the connections."""
        for client in self.ads:
            client.close()

    def make(self, kind: str, body: Mapping[str, Any], *verdicts: Verdict, how: How | None = None) -> str:
        """Enter something new and return its id; empty when it was refused."""
        answer = self.order(how or How(), "POST", f"{kind}s", verdicts or (made(kind),), body)
        return str(answer["id"]) if "id" in answer else ""

    def keyed(self, slot_id: str) -> str:
        """Return a new key of a slot."""
        answer = self.stage.admin(0).post(f"/api/v1/slots/{slot_id}/keys")
        (entry,) = self.book.read()
        if (answer.status_code, entry.type, entry.subject) != (201, "slot_key_issued", slot_id):
            raise Wrong("a key was asked for", answer.text, entry)
        return str(answer.json()["key"])

    def order(
        self, how: How, method: str, path: str, verdicts: Sequence[Verdict], body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Send a command, and see that its answer is one of the verdicts and that the log has what it stands for."""
        headers = {"Idempotency-Key": str(uuid4())} if how.keyed else {}
        thing = self._subject_of(path)
        if how.match != "any" and thing is not None:
            headers["If-Match"] = f'"{thing.version + (how.match == "stale")}"'
            if how.match == "stale":
                # What is spent is looked at when a change is appended, after the version.
                verdicts = [
                    STALE if verdict.status < 400 or verdict == BELOW_SPENT else verdict for verdict in verdicts
                ]
        answer = self.stage.admin(how.node).request(method, f"/api/v1/{path}", json=body, headers=headers)
        content: Mapping[str, Any] = answer.json()
        mine = self._mine()
        found = Verdict(answer.status_code, content.get("code"), tuple(entry.type for entry in mine))
        if found not in verdicts:
            raise Wrong(f"{method} {path} {headers}: {found}, and not {verdicts}", body, content, *mine)
        if found.status < 400:
            self._check_receipt(content, mine)
        if how.keyed:
            self.asked.append(
                Asked(method=method, path=path, body=body, headers=headers, status=found.status, answer=content)
            )
        return content

    def again(self, number: int, *, node: int, otherwise: bool) -> None:
        """Send a command under its key again: the same is answered the same, another is refused."""
        if not self.asked:
            return
        asked = self.asked[number % len(self.asked)]
        if otherwise and asked.body is None:
            return
        word = "reason" if asked.body and "reason" in asked.body else "name"
        body = {**(asked.body or {}), word: f"Another {uuid4()}"} if otherwise else asked.body
        answer = self.stage.admin(node).request(
            asked.method, f"/api/v1/{asked.path}", json=body, headers=dict(asked.headers)
        )
        mine = self._mine()
        if otherwise:
            fine = (answer.status_code, answer.json().get("code")) == (REUSED.status, REUSED.code)
        else:
            fine = (answer.status_code, answer.json()) == (asked.status, asked.answer)
        if mine or not fine:
            raise Wrong("a command was repeated", asked, answer.text, *mine)

    def ask(
        self, node: int, places: Sequence[tuple[int, int]], *, country: str | None = None, test: bool = False
    ) -> list[dict[str, Any]]:
        """Ask for creatives for slots, so many each, and keep what is promised; what cannot be shown must not be."""
        geo = {"country": country} if country else {}
        wanted = {self.slots[number] for number, _ in places}
        closed = [slot for slot in wanted if self.book.of("slot", slot).fields["status"] != "active"]
        body = {
            "id": "r",
            "geo": geo,
            "test": test,
            "placements": [
                {"id": str(n), "slot_id": self.slots[place], "count": count} for n, (place, count) in enumerate(places)
            ],
        }
        if closed:
            self._until(lambda: self._decide(node, body) is None, "an inactive slot is served")
            return []
        for slot in wanted:
            self.settle(node, slot, geo)
        answer = self._decide(node, body)
        if answer is None:
            raise Wrong("an active slot is not served", body)
        ads = [ad for placement in answer for ad in placement["ads"]]
        if len({ad["creative_id"] for ad in ads}) < len(ads):
            raise Wrong("a page shows a creative twice", answer)
        for placement, (place, count) in zip(answer, places, strict=True):
            self._check_placement(placement, self.slots[place], count, country, test=test, page=ads)
        self.promises += [self._promise(ad) for ad in ads]
        self.nothing_happened()
        return ads

    def report(self, chosen: Iterable[tuple[int, str]], *, node: int) -> None:
        """Report deliveries of promises one by one: each is recorded the first time, and acknowledged every time.

        Now and then a crawler does: that is marked, unless it comes after what counts.
        """
        for number, kind in chosen:
            promise = self._promised(number)
            if promise is None:
                answer = self.ads[node % len(self.ads)].get(f"/ads/v1/{LETTERS[kind]}/{kind[0]}{'A' * 80}")
                if answer.status_code != 403:
                    raise Wrong("a forged beacon was not refused", answer.text)
                self.nothing_happened()
                continue
            crawls = number % 7 == 6
            name = f"{INVALID}{kind}" if crawls and not promise.ticket.test else kind
            expected = {(promise, name)} if self._is_new(promise, name) else set()
            self._beacon(promise, kind, node, **({"headers": CRAWLER} if crawls else {}))
            self._recorded(expected)

    def report_many(self, chosen: Sequence[tuple[int, str, int | None]], *, node: int) -> None:
        """Report deliveries together, some hours after they are said to have happened, and forged ones among them."""
        tokens: list[object] = []
        results: list[str] = []
        expected: dict[str, tuple[Promise, str]] = {}
        for number, kind, hours_ago in chosen:
            promise = self._promised(number)
            token = f"{LETTERS[kind]}{'A' * 80}" if promise is None else promise.tokens[kind]
            happened_at = self.stage.clock.now() - timedelta(hours=hours_ago or 0)
            tokens.append(token if hours_ago is None else {"token": token, "occurred_at": happened_at.isoformat()})
            if promise is None:
                results.append("refused")
            elif token in expected or not self._is_new(promise, kind):
                results.append("repeated")
            else:
                results.append("recorded")
                expected[token] = (promise, kind)
        answer = self.ads[node % len(self.ads)].post("/ads/v1/events", json={"tokens": tokens})
        if answer.status_code != 200 or [each["result"] for each in answer.json()["results"]] != results:
            raise Wrong(f"expected {results}", answer.text)
        entries = self._recorded(set(expected.values()))
        reasons = [each.get("code") for each in answer.json()["results"] if each["result"] == "recorded"]
        if sorted(map(str, reasons)) != sorted(str(entry.event.get("reason")) for entry in entries):
            raise Wrong("the answers and the log differ", answer.text, *entries)

    def report_at_once(self, chosen: Collection[tuple[int, str]]) -> None:
        """Report each of some deliveries three times, all at the same time and to all nodes: each counts once."""
        pairs = {(promise, kind) for number, kind in chosen if (promise := self._promised(number)) is not None}
        expected = {(promise, kind) for promise, kind in pairs if self._is_new(promise, kind)}
        if not pairs:
            return
        tasks = [(promise, kind, node) for promise, kind in pairs for node in range(3)]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda task: self._beacon(*task), tasks))
        self._recorded(expected)

    def settle(self, node: int, slot_id: str, geo: Mapping[str, str]) -> None:
        """Wait until a node shows in a slot exactly what the book says can be shown there."""
        body = {"id": "t", "test": True, "geo": geo, "placements": [{"id": "t", "slot_id": slot_id, "count": 10}]}
        seen: object = None

        def fits() -> bool:
            nonlocal seen
            answer = self._decide(node, body)
            seen = None if answer is None else {ad["creative_id"] for ad in answer[0]["ads"]}
            return any(seen == self.shown(slot_id, geo.get("country"), now) for now in self._moments())

        try:
            self._until(fits, "what is shown")
        except Wrong as wrong:
            right = self.shown(slot_id, geo.get("country"), self.stage.clock.now())
            raise Wrong(f"{wrong} at node {node}: {seen}, and not {right}") from None

    def shown(self, slot_id: str, country: str | None, now: datetime) -> set[str]:
        """Return the creatives that can be shown in a slot to somebody in a country."""
        floor = self.book.of("slot", slot_id).fields["floor_cpm_micros"]
        if self.book.of("advertiser", self.advertiser).fields["status"] != "active":
            return set()
        return {
            creative_id
            for creative_id in self.creatives
            if (creative := self.book.of("creative", creative_id)).status == "active"
            and creative.review == "approved"
            and (campaign := self.book.of("campaign", creative.fields["campaign_id"])).status == "active"
            and is_flying(campaign, now)
            and _targets(campaign, country)
            and (campaign.fields["pricing"]["model"] != "cpm" or campaign.fields["pricing"]["price_micros"] >= floor)
        }

    def nothing_happened(self) -> None:
        """See that the log has gained nothing that was asked for."""
        if mine := self._mine():
            raise Wrong("nobody asked for this", *mine)

    def _mine(self) -> list[Entry]:
        """Return what the log has gained, but for what happens by itself, and see that it was time for that."""
        found = self.book.read()
        for entry in found:
            if entry.actor == "clock" and not is_over(self.book.things[entry.stream], entry.recorded_at):
                raise Wrong("the clock was early", entry)
        return [entry for entry in found if entry.actor not in BY_THEMSELVES]

    def _subject_of(self, path: str) -> Thing | None:
        kind, _, rest = path.partition("/")
        return self.book.of(kind.removesuffix("s"), rest.partition("/")[0]) if rest else None

    def _check_receipt(self, answer: Mapping[str, Any], mine: Sequence[Entry]) -> None:
        entries = self.book.things[mine[-1].stream].entries if mine else None
        if entries is None:
            return
        last = entries[-1]
        if answer != {"id": last.subject, "version": last.version, "position": last.position}:
            raise Wrong("a receipt is not of what it is for", answer, last)

    def _decide(self, node: int, body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """Return what each placement gets; None when one of the slots is not open."""
        answer = self.ads[node % len(self.ads)].post("/ads/v1/decisions", json=body)
        if answer.status_code in {401, 422}:
            return None
        if answer.status_code != 200:
            raise Wrong("a page is not answered", answer.text)
        found: list[dict[str, Any]] = answer.json()["decisions"]
        return found

    def _check_placement(
        self,
        placement: Mapping[str, Any],
        slot_id: str,
        count: int,
        country: str | None,
        *,
        test: bool,
        page: Sequence[Mapping[str, Any]],
    ) -> None:
        ads = [ad["creative_id"] for ad in placement["ads"]]
        possible = set.union(*(self.shown(slot_id, country, now) for now in self._moments()))
        if len(ads) > count or not possible.issuperset(ads):
            raise Wrong(f"{count} of {possible} can be shown", placement)
        if (len(ads) < count) != (placement["no_bid_reason"] is not None):
            raise Wrong("fewer than were asked for, or why?", placement)
        certain = set.intersection(*(self.shown(slot_id, country, now) for now in self._moments()))
        passed_over = {each for each in certain if test or self._is_unlimited(each)} - {
            ad["creative_id"] for ad in page
        }
        better = [each for each in passed_over if any(self._priority(each) < self._priority(ad) for ad in ads)]
        if better or (passed_over and len(ads) < count):
            raise Wrong(f"{better or passed_over} should have been shown", placement)

    def _priority(self, creative_id: str) -> int:
        campaign_id = self.book.of("creative", creative_id).fields["campaign_id"]
        return int(self.book.of("campaign", campaign_id).fields["priority"])

    def _is_unlimited(self, creative_id: str) -> bool:
        """Tell whether neither now nor before, which a node may still think, a creative's campaign had a limit."""
        campaign = self.book.of("campaign", self.book.of("creative", creative_id).fields["campaign_id"])
        return all(entry.event.get(name) is None for entry in campaign.entries for name in LIMITS)

    def _moments(self) -> tuple[datetime, datetime]:
        """Return the time on the wall, and that of the log: a node goes by the later one if it has written to it."""
        now = self.stage.clock.now()
        return now, max(now, self.book.recorded_at)

    def _promise(self, ad: Mapping[str, Any]) -> Promise:
        tokens = {kind: ad[f"{kind}_url"].rpartition("/")[2] for kind in LETTERS}
        text = tokens["impression"][1:]
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        ticket = msgspec.msgpack.decode(raw[1:-MAC_BYTES], type=Ticket)
        return Promise(tokens=tokens, ticket=ticket, clock_steps=self.stage.clock_steps)

    def _promised(self, number: int) -> Promise | None:
        """Return one of the promises, the latest ones first; None for a forged one now and then."""
        return self.promises[-1 - number % len(self.promises)] if self.promises and number % 17 != 16 else None

    def _is_new(self, promise: Promise, kind: str) -> bool:
        known = self.book.delivered.get(str(promise.ticket.decision_id), {})
        return {kind, kind.removeprefix(INVALID)}.isdisjoint(known)

    def _beacon(self, promise: Promise, kind: str, node: int, **options: Any) -> None:
        answer = self.ads[node % len(self.ads)].get(f"/ads/v1/{LETTERS[kind]}/{promise.tokens[kind]}", **options)
        if answer.status_code != (302 if kind == "click" else 204) or answer.headers.get("Location", TARGET) != TARGET:
            raise Wrong(f"a {kind} is not acknowledged", answer, answer.text)

    def _recorded(self, expected: Collection[tuple[Promise, str]]) -> list[Entry]:
        """See that these deliveries and no others were recorded, each once, and billed or not as it must be."""
        mine = self._mine()
        found = sorted((entry.subject, name_of(entry)) for entry in mine)
        if found != sorted((str(promise.ticket.decision_id), kind) for promise, kind in expected):
            raise Wrong(
                "not what was reported", [(str(each.ticket.decision_id), kind) for each, kind in expected], *mine
            )
        for promise, kind in expected:
            entry = self.book.delivered[str(promise.ticket.decision_id)][kind]
            if entry.event.get("reason") not in self._reasons(promise, kind, entry):
                raise Wrong(
                    f"a {kind} must be billed, or why not: {self._reasons(promise, kind, entry)}", promise, entry
                )
        return mine

    def _reasons(self, promise: Promise, kind: str, entry: Entry) -> set[str | None]:
        """Return why a delivery may have been left unbilled; None stands for billed."""
        if kind.startswith(INVALID):
            return {"invalid:crawler"}
        ticket, now = promise.ticket, entry.recorded_at.timestamp()
        fields = self.book.of("campaign", str(ticket.campaign_id)).fields
        # Set back, a clock lets promises of before last longer than the steady clocks of their workers know of.
        is_held = ticket.worker and now < ticket.hold_expires_at and promise.clock_steps == self.stage.clock_steps
        if ticket.test:
            return {"test"}
        if now > ticket.expires_at:
            return {"late"}
        if kind == "view" or all(fields.get(name) is None for name in LIMITS) or (kind == "impression" and is_held):
            return {None}
        return {None, "over_budget"}

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = monotonic() + SETTLE_SECONDS_MAX
        while not condition():
            if monotonic() > deadline:
                raise Wrong(what)
            sleep(0.01)
            self.nothing_happened()


def _targets(campaign: Thing, country: str | None) -> bool:
    targeting = campaign.fields["targeting"]
    return not targeting or any(target["country"] in {None, country} for target in targeting)
