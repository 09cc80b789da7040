"""A chart for letters: bars as a PNG, because mail programs show no other kind of drawing reliably."""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

from PIL import Image, ImageDraw, ImageFont

WIDTH: Final = 560
HEIGHT: Final = 200
MARGIN: Final = 24
GAP: Final = 12
SCALE: Final = 2
"""Drawn twice as large, for screens that have more pixels than they say."""

INK: Final = "#1f2937"
BAR: Final = "#2563eb"
PAPER: Final = "#ffffff"


def bars(labels: Sequence[str], values: Sequence[int]) -> bytes:
    """Return a PNG with one bar a value, its label below and the value above it; the same for the same values."""
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11 * SCALE)
    step = (WIDTH - 2 * MARGIN) / max(1, len(values))
    room, floor = HEIGHT - 2 * MARGIN - GAP, HEIGHT - MARGIN
    for number, (label, value) in enumerate(zip(labels, values, strict=True)):
        left = MARGIN + number * step + GAP / 2
        right, middle = left + step - GAP, left + (step - GAP) / 2
        top = floor - max(1.0, room * value / max(1, *values))
        draw.rectangle([left * SCALE, top * SCALE, right * SCALE, floor * SCALE], fill=BAR)
        draw.text((middle * SCALE, (floor + 4) * SCALE), label, fill=INK, font=font, anchor="ma")
        draw.text((middle * SCALE, (top - 4) * SCALE), f"{value:,}", fill=INK, font=font, anchor="ms")
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
