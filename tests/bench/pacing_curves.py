"""Pacing drawn: for each scene of the tests what was delivered beside the curve, as SVG, and how far off it was."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tests.bench.rounds import Plan, Row
from tests.pacing import shared_evening
from tests.pacing.flights import LEAST, Flown
from tests.pacing.scenes import HOUR, MONDAY, RECORDED, SCENES, Scene
from tests.pacing.shared_evening import MARKS, Course

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "build" / "bench"
DEVIATION_PERCENT_MAX: Final = 5
INCHES: Final = (9.0, 4.5)
POINTS: Final = 300
"""So many points of a line are as many as can be seen."""

QUARTER: Final = 900
HOURS: Final = "hours since Monday, 0:00 UTC"
TICK_HOURS: Final = (1, 2, 3, 6, 12, 24)
TICKS_MAX: Final = 13


def curves(_plan: Plan) -> Iterator[Row]:
    """Fly through every scene whose traffic is there, and draw it; chance is seeded, so that it is the same again."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pacing"})
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, scene in SCENES.items():
        if name != "recorded-evening" or RECORDED.exists():
            found = scene()
            whole = f"{found.flown.delivered[-1]:,.0f} impressions"
            yield _kept(name, whole, found.deviation * 100, "%", DEVIATION_PERCENT_MAX, drawn(found))
    if RECORDED.exists():
        sold = shared_evening.sale()
        shared = list(shared_evening.courses(sold, shared_evening.play(sold)).values())
        off = max(course.off for course in shared)
        yield _kept("shared-evening", f"{len(shared)} campaigns", off, "impressions", LEAST, drawn_together(shared))


def _kept(name: str, whole: str, off: float, unit: str, most: float, figure: Figure) -> Row:
    path, scene = FOLDER / f"pacing-{name}.svg", name.replace("-", " ")
    figure.suptitle(f"{scene}: {whole}, at most {off:.1f} {unit} off the curve")
    figure.savefig(path, metadata={"Date": None})
    return Row(
        name=f"pacing-{name}",
        what=f"pacing, {scene}: largest deviation from the curve at any hour",
        unit=unit,
        figure=off,
        limit="at most",
        target=most,
        note=f"drawn in {path.relative_to(ROOT)}",
    )


def drawn_together(courses: Sequence[Course]) -> Figure:
    """Return a picture of campaigns that share an evening: what part of each was delivered, and should have been."""
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    hours = [_hour(mark) for mark in MARKS]
    for course in courses:
        axes.plot(hours, [100 * done / course.limit for done in course.delivered], color="tab:red", alpha=0.15)
    for due in {tuple(due / course.limit for due in course.due) for course in courses}:
        axes.plot(hours, [100 * part for part in due], color="tab:blue", linewidth=2)
    axes.legend(
        [Line2D([], [], color="tab:red"), Line2D([], [], color="tab:blue")],
        ["delivered, each campaign", "the curves: all of the evening, and the hours of some"],
        frameon=False,
    )
    axes.set_xlabel(HOURS)
    axes.set_ylabel("percent of its impressions")
    axes.grid(alpha=0.3)
    return figure


def drawn(scene: Scene) -> Figure:
    """Return a picture: the curve and what it may be off by, what was delivered, and what was asked for meanwhile."""
    flown = scene.flown
    figure = Figure(figsize=INCHES, layout="constrained")
    delivery = figure.subplots()
    _draw_requests(delivery.twinx(), flown)
    at = range(0, len(flown.seconds), max(len(flown.seconds) // POINTS, 1))
    hours = [_hour(flown.seconds[step]) for step in at]
    curve, part = [flown.curve[step] for step in at], DEVIATION_PERCENT_MAX / 100
    delivery.fill_between(
        hours,
        [each * (1 - part) for each in curve],
        [each * (1 + part) for each in curve],
        color="tab:blue",
        alpha=0.2,
        linewidth=0,
        label=f"within {DEVIATION_PERCENT_MAX} % of it",
    )
    delivery.plot(hours, curve, color="tab:blue", linewidth=1, label="the curve")
    delivery.plot(hours, [flown.delivered[step] for step in at], color="tab:red", linewidth=1.5, label="delivered")
    at_moments = [flown.delivered[flown.seconds.index(second)] for second in scene.moments]
    moments = [_hour(second) for second in scene.moments]
    delivery.plot(moments, at_moments, ".", color="tab:red", markersize=5, label="judged here")
    delivery.set_xlabel(HOURS)
    delivery.set_ylabel("impressions")
    delivery.set_xticks(_ticks(hours))
    delivery.set_ylim(bottom=0)
    delivery.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    return figure


def _draw_requests(axes: Axes, flown: Flown) -> None:
    step = flown.seconds[1] - flown.seconds[0]
    steps = QUARTER // step
    starts = range(0, len(flown.requests), steps)
    axes.bar(
        [_hour(flown.seconds[start] - step) for start in starts],
        [sum(flown.requests[start : start + steps]) for start in starts],
        width=QUARTER / HOUR,
        align="edge",
        color="lightgrey",
        label="requests",
    )
    axes.set_ylabel("requests in each quarter of an hour")
    # The axes that were made last lie on top; these belong behind the lines.
    axes.set_zorder(-1)
    axes.figure.axes[0].patch.set_visible(False)


def _hour(second: int) -> float:
    return (second - MONDAY) / HOUR


def _ticks(hours: Sequence[float]) -> range:
    """Return the hours to name: few enough to be read."""
    first, last = int(hours[0]), round(hours[-1])
    every = next(each for each in TICK_HOURS if (last - first) / each < TICKS_MAX)
    return range(first, last + 1, every)
