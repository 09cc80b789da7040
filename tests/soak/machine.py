"""The machine: what Hypothesis may do to the service, step by step, each step checked against the book.

Nothing that is drawn depends on what the service answered, so that a seed leads to the same steps again.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.soak import reads
from tests.soak import verdicts as expect
from tests.soak.play import TARGET, Play
from tests.soak.stage import How, Stage
from tests.soak.wrong import Wrong

CAMPAIGNS_MAX: Final = 5
CREATIVES_MAX: Final = 9
PROJECTIONS: Final = ("advertisers", "campaigns", "creatives", "slots", "budgets", "delivery", "history")
CLOCK_STEPS_SECONDS: Final = (60, 3_600, -3_600, 86_400, -60, 3 * 86_400)
PRICES: Final = (
    {"model": "cpm", "price_micros": 5_000_000},
    {"model": "cpm", "price_micros": 1_000},
    {"model": "cpc", "price_micros": 700},
    {"model": "flat", "price_micros": 9_000},
)
ZONES: Final = ("UTC", "Asia/Tokyo", "America/New_York")

RARELY: Final = (
    "restart",
    "kill",
    "kill worker",
    *["rebuild"] * 3,
    *["look back"] * 2,
    *["clock"] * 10,
    *["look"] * 82,
)
"""What disturbs the service in a long run, of a hundred times."""

OFTEN: Final = ("kill worker", *["rebuild"] * 2, *["look back"] * 6, *["clock"] * 31, *["look"] * 60)
"""The same in a short run, which has no time for restarts but its own."""

node = st.integers(0, 1)
number = st.integers(0, 10_000)
how = st.builds(How, node=node, keyed=st.booleans(), match=st.sampled_from(("any", "any", "current", "stale")))
kind = st.sampled_from(("impression", "impression", "impression", "view", "click"))
country = st.sampled_from((None, "DE", "CN"))
day = st.one_of(st.none(), st.integers(-1, 3))
limit = st.one_of(st.none(), st.integers(1, 40))
limits = st.fixed_dictionaries(
    {
        "impression_budget": limit,
        "daily_impression_budget": limit,
        "budget_micros": limit.map(lambda units: None if units is None else units * 5_000 - 1),
        "daily_budget_micros": limit.map(lambda units: None if units is None else units * 5_000),
    }
)
some_limits: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    limit.map(lambda units: {"impression_budget": units}),
    limit.map(lambda units: {"budget_micros": units and units * 5_000}),
    limits,
)
placements = st.lists(st.tuples(st.sampled_from((0, 0, 0, 1)), st.integers(1, 4)), min_size=1, max_size=3)


class Machine(RuleBasedStateMachine):
    """Everything that can be asked of a ledger, in any order."""

    stage: ClassVar[Stage]
    disturbances: ClassVar[Sequence[str]] = OFTEN
    steps: ClassVar[int] = 0
    seen: ClassVar[dict[str, int]] = {}

    @initialize(terms=some_limits, price=st.sampled_from(PRICES[:3]), local=st.booleans())
    def begin(self, terms: dict[str, Any], price: dict[str, Any], local: bool) -> None:
        """Set up two active campaigns with a creative each, one without limits and one perhaps with some."""
        self.play = Play(self.stage)
        self.memories: list[Callable[[], None]] = []
        for fields in ({}, terms):
            self._campaign(
                How(), {"pricing": price, "targeting": [{"country": "DE"}] if local and fields else [], **fields}
            )
            if len(self.play.campaigns) == len(self.play.creatives):
                continue
            self._creative(How(), self.play.campaigns[-1])
            for step in ("submit", "approve", "activate"):
                self._step_creative(How(), self.play.creatives[-1], step)
            self._step_campaign(How(), self.play.campaigns[-1], "activate")

    @rule(how=how, terms=some_limits, price=st.sampled_from(PRICES), start=day, end=day, zone=st.sampled_from(ZONES))
    def draft_campaign(
        self, how: How, terms: dict[str, Any], price: dict[str, Any], start: int | None, end: int | None, zone: str
    ) -> None:
        """Draft a campaign with one creative to be reviewed."""
        self._step("draft")
        if len(self.play.campaigns) < CAMPAIGNS_MAX:
            fields = {"start_date": self._day(start or 0), "end_date": None if end is None else self._day(end)}
            self._campaign(how, {"pricing": price, "timezone": zone, **fields, **terms})

    @rule(how=how, which=number, changes=some_limits, end=day, priority=st.integers(1, 5), what=st.integers(0, 4))
    def change_campaign(
        self, how: How, which: int, changes: dict[str, Any], end: int | None, priority: int, what: int
    ) -> None:
        """Raise or lower limits, move dates, set the priority, or what is fixed once a campaign has run."""
        self._step("change")
        others: tuple[dict[str, Any], ...] = (
            {"end_date": None if end is None else self._day(end)},
            {"priority": priority},
            {"pricing": PRICES[priority % 4]},
        )
        campaign_id = self._one_of(self.play.campaigns, which)
        body = changes if changes and what < 3 else others[what % 3]
        verdicts = expect.of_campaign_change(self.play.book, campaign_id, body, self._now())
        self.play.order(how, "PATCH", f"campaigns/{campaign_id}", verdicts, body)

    @rule(how=how, which=number, step=st.sampled_from(("activate",) * 4 + ("pause", "pause", "complete", "archive")))
    def step_campaign(self, how: How, which: int, step: str) -> None:
        """Take a step in the life of a campaign."""
        self._step(step)
        self._step_campaign(how, self._one_of(self.play.campaigns, which), step)

    @rule(how=how, which=number, finished=st.booleans())
    def add_creative(self, how: How, which: int, finished: bool) -> None:
        """Add a creative to a campaign, and perhaps take it all the way."""
        self._step("creative")
        if len(self.play.creatives) < CREATIVES_MAX and self._creative(how, self._one_of(self.play.campaigns, which)):
            for step in ("submit", "approve", "activate") if finished else ():
                self._step_creative(How(node=how.node), self.play.creatives[-1], step)

    @rule(how=how, which=number, step=st.sampled_from((*expect.CREATIVE_STEPS, "activate", "approve", "alter")))
    def step_creative(self, how: How, which: int, step: str) -> None:
        """Take a step in the life of a creative, or alter what was reviewed."""
        self._step("creative")
        creative_id = self._one_of(self.play.creatives, which)
        if step != "alter":
            self._step_creative(how, creative_id, step)
            return
        body = {"alt_text": f"Text {which}"} if which % 2 else {"weight": 1 + which % 100}
        verdicts = expect.of_creative_change(self.play.book.of("creative", creative_id), body)
        self.play.order(how, "PATCH", f"creatives/{creative_id}", verdicts, body)

    @rule(how=how, which=number, what=st.integers(0, 5))
    def change_the_rest(self, how: How, which: int, what: int) -> None:
        """Change the advertiser or the second slot: names, whether they are active, and the lowest price."""
        self._step("change")
        changes: tuple[dict[str, Any], ...] = (
            {"name": f"Name {which}"},
            {"status": "inactive" if which % 4 == 0 else "active"},
            {"floor_cpm_micros": (which % 2) * 2_000},
        )
        kind, thing_id = ("advertiser", self.play.advertiser) if what < 2 else ("slot", self.play.slots[1])
        body = changes[what % 2 if what < 2 else what % 3]
        verdicts = expect.of_change(kind, self.play.book.of(kind, thing_id), body)
        self.play.order(how, "PATCH", f"{kind}s/{thing_id}", verdicts, body)

    @rule(node=node, which=number, otherwise=st.booleans())
    def repeat_command(self, node: int, which: int, otherwise: bool) -> None:
        """Send a command under its key again."""
        self._step("repeat")
        self.play.again(which, node=node, otherwise=otherwise)

    @rule(
        node=node,
        places=placements,
        country=country,
        test=st.sampled_from((False,) * 7 + (True,)),
        shown=st.lists(st.tuples(st.integers(0, 5), kind), max_size=6),
    )
    def visit(
        self, node: int, places: list[tuple[int, int]], country: str | None, test: bool, shown: list[tuple[int, str]]
    ) -> None:
        """Ask for creatives, and report some of what happened to them, to the other node as well."""
        self._step("visit")
        self.play.ask(node, places, country=country, test=test)
        self.play.report(shown[:3], node=node)
        self.play.report(shown[3:], node=node + 1)

    @rule(node=node, places=placements, repeats=st.integers(1, 6))
    def sell(self, node: int, places: list[tuple[int, int]], repeats: int) -> None:
        """Ask several times and report every impression, so that budgets come to their ends."""
        self._step("sell")
        for _ in range(repeats):
            ads = self.play.ask(node, places)
            if ads:
                self.play.report_many([(n, "impression", None) for n in range(min(16, len(ads)))], node=node + 1)

    @rule(node=node, places=placements, seconds=st.sampled_from((61, 3_700)), again=st.booleans())
    def dawdle(self, node: int, places: list[tuple[int, int]], seconds: int, again: bool) -> None:
        """Report what was shown when its holds, or some of its tokens, are over; others may have been shown since."""
        self._step("dawdle")
        shown = len(self.play.ask(node, places))
        if self.stage.clock.can_be_set:
            self.stage.step_clock(seconds)
        shown += len(self.play.ask(node + 1, places)) if again else 0
        if shown:
            self.play.report_many([(n, "impression", None) for n in range(shown)], node=node)

    @rule(node=node, chosen=st.lists(st.tuples(number, kind), min_size=1, max_size=4))
    def report(self, node: int, chosen: list[tuple[int, str]]) -> None:
        """Report deliveries of whenever, in whatever order, however often."""
        self._step("report")
        self.play.report(chosen, node=node)

    @rule(
        node=node,
        chosen=st.lists(st.tuples(number, kind, st.sampled_from((None, None, 0, 1, 30))), min_size=1, max_size=30),
    )
    def report_many(self, node: int, chosen: list[tuple[int, str, int | None]]) -> None:
        """Report deliveries together."""
        self._step("report many")
        self.play.report_many(chosen, node=node)

    @rule(chosen=st.lists(st.tuples(number, kind), min_size=1, max_size=5))
    def report_at_once(self, chosen: list[tuple[int, str]]) -> None:
        """Report deliveries in parallel."""
        self._step("report at once")
        self.play.report_at_once(chosen)

    @rule(what=st.integers(0, 99), node=node, which=number)
    def disturb(self, what: int, node: int, which: int) -> None:
        """Look at everything; or set the clock, rebuild a read model, end a node, or kill what there is of it."""
        disturbance = self.disturbances[what]
        self._step(disturbance)
        nodes = self.stage.nodes
        match disturbance:
            case "restart" | "kill":
                service = nodes.services[node]
                service.stop() if disturbance == "restart" else service.kill()
                nodes.start()
            case "kill worker":
                nodes.kill_worker(node)
                nodes.wait_ready()
            case "rebuild":
                done = nodes.run("projections", "rebuild", PROJECTIONS[which % len(PROJECTIONS)])
                if done.returncode:
                    raise Wrong("a rebuild failed", done.stdout, done.stderr)
            case "clock" if self.stage.clock.can_be_set:
                self.stage.step_clock(CLOCK_STEPS_SECONDS[which % len(CLOCK_STEPS_SECONDS)])
            case "look back" if self.memories:
                self.memories[which % len(self.memories)]()
            case _:
                self.memories.append(reads.as_of(self.play, node))
        self.play.nothing_happened()
        reads.everything(self.play, node)

    def teardown(self) -> None:
        """Look at everything once more."""
        if hasattr(self, "play"):
            try:
                reads.everything(self.play, 0)
            finally:
                self.play.close()

    def _campaign(self, how: How, fields: dict[str, Any]) -> None:
        body: dict[str, Any] = {
            "advertiser_id": self.play.advertiser,
            "name": f"Campaign {uuid4()}",
            "start_date": "2020-01-01",
        }
        body |= {"currency": "EUR", "end_date": None, **fields}
        verdicts = expect.of_new_campaign(self.play.book.of("advertiser", self.play.advertiser), body)
        if made := self.play.make("campaign", body, *verdicts, how=How(node=how.node, keyed=how.keyed)):
            self.play.campaigns.append(made)

    def _creative(self, how: How, campaign_id: str) -> bool:
        body: dict[str, Any] = {
            "campaign_id": campaign_id,
            "name": "Creative",
            "ad_type": "top_bar_ad",
            "media_type": "image",
            "content_rating": {"no_prohibited_content": True},
        }
        body |= {"media_url": "https://cdn.example/banner.png", "click_url": TARGET, **self.play.size}
        verdicts = expect.of_new_creative(self.play.book.of("campaign", campaign_id))
        made = self.play.make("creative", body, *verdicts, how=How(node=how.node, keyed=how.keyed))
        if made:
            self.play.creatives.append(made)
        return bool(made)

    def _step_campaign(self, how: How, campaign_id: str, step: str) -> None:
        verdicts = expect.of_campaign_step(self.play.book.of("campaign", campaign_id), step, self._now())
        self.play.order(how, "POST", f"campaigns/{campaign_id}/{step}", verdicts)

    def _step_creative(self, how: How, creative_id: str, step: str) -> None:
        verdicts = expect.of_creative_step(self.play.book.of("creative", creative_id), step)
        body = {"reason": "Not in this play"} if step == "deny" else None
        self.play.order(how, "POST", f"creatives/{creative_id}/{step}", verdicts, body)

    def _one_of(self, things: list[str], which: int) -> str:
        return things[which % len(things)]

    def _now(self) -> datetime:
        return self.stage.clock.now()

    def _day(self, days: int) -> str:
        return (self._now() + timedelta(days=days)).date().isoformat()

    def _step(self, what: str) -> None:
        type(self).steps += 1
        self.seen[what] = self.seen.get(what, 0) + 1
