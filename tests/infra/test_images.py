"""Images as they are uploaded: what is taken, what of it is kept, and what is refused before it costs much."""

from io import BytesIO
from time import perf_counter
from typing import Any, Final
from zlib import compress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageDraw, ImageSequence, ImageStat, PngImagePlugin

from domain.errors import ImageMalformed, ImageMislabelled, ImageTooLarge, Refusal
from infra.images import BYTES_MAX, FRAMES_MAX, PIXELS_MAX, SCANS_MAX, TYPES, clean
from tests.domain.strategies import law

SECRET: Final = "51.4779 N, 0.0015 W"
FORMATS: Final = {"GIF": "gif", "JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
SAID_BY_FORMATS: Final = {
    *("jfif", "jfif_version", "jfif_unit", "jfif_density"),
    *("version", "background", "duration", "extension", "loop"),
}
CLOSE: Final = 10
"""So far pixels may be off on average, of 255, that were encoded twice with loss."""

SECONDS_MAX: Final = 20
"""What an image of the largest kind may take, on a machine that is busy."""


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    """Return an image as a file."""
    written = BytesIO()
    image.save(written, format_, **options)
    return written.getvalue()


def decoded(content: bytes) -> Image.Image:
    """Return the image in a file."""
    return Image.open(BytesIO(content))


def arrow(mode: str = "RGB") -> Image.Image:
    """Return an image that looks different from every side."""
    drawn = Image.new("RGB", (60, 40), "#fffbe6")
    ImageDraw.Draw(drawn).polygon([(5, 5), (55, 5), (5, 35)], fill="#b3261e")
    return drawn.convert(mode)


def see_through(mode: str) -> Image.Image:
    """Return an image of which the right half is clear."""
    drawn = arrow("RGBA")
    drawn.paste((0, 0, 0, 0), (30, 0, 60, 40))
    return drawn.convert(mode)


def film(pixels: int, frames: int) -> list[Image.Image]:
    """Return so many frames, each unlike the one before."""
    colours = ((37 * number % 256, 91 * number % 256, 200) for number in range(frames))
    return [Image.new("RGB", (pixels, pixels), colour) for colour in colours]


def animated(frames: list[Image.Image], format_: str, **options: Any) -> bytes:
    """Return an animation as a file."""
    return encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options)


def differ(one: Image.Image, other: Image.Image) -> float:
    """Return by how much the pixels of two images differ on average."""
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))).mean)


LOSSLESS: Final = [
    *(("PNG", arrow(mode)) for mode in ("1", "L", "P", "RGB", "I;16")),
    *(("PNG", see_through(mode)) for mode in ("LA", "RGBA")),
    ("PNG", see_through("RGBA").quantize(8)),
    *(("GIF", image) for image in (arrow("P"), see_through("RGBA"))),
]


@pytest.mark.parametrize(("format_", "image"), LOSSLESS, ids=map(str, range(len(LOSSLESS))))
def test_pixels_are_kept(format_: str, image: Image.Image) -> None:
    """Where a format loses nothing, nothing is lost: neither a pixel nor what is clear; and again is the same file."""
    content = encoded(image, format_)
    kept = clean(content, None)
    assert differ(decoded(kept.content), decoded(content)) == 0
    assert (kept.width, kept.height) == image.size
    assert clean(kept.content, None).name == kept.name


@pytest.mark.parametrize("image", [arrow(), arrow("L"), arrow("CMYK")], ids=lambda image: image.mode)
def test_photographs_look_the_same(image: Image.Image) -> None:
    """Where a format loses, hardly anything is lost; colours of print become those of a screen."""
    content = encoded(image, "JPEG", quality=85)
    kept = decoded(clean(content, "image/jpeg").content)
    assert kept.mode == ("L" if image.mode == "L" else "RGB")
    assert differ(kept, decoded(content).convert("RGB")) <= CLOSE


def test_which_side_is_up_is_drawn() -> None:
    """An image that its metadata turns is turned, as browsers show it, and then says nothing of it."""
    lying = arrow().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for format_ in ("JPEG", "PNG", "WEBP"):
        kept = clean(encoded(lying, format_, exif=exif), None)
        assert (kept.width, kept.height) == (60, 40)
        shown = decoded(kept.content)
        assert shown.getexif().get(ExifTags.Base.Orientation) is None
        assert differ(shown, arrow()) <= CLOSE


def test_colours_are_those_of_the_web() -> None:
    """An image in other colours is shown in those of the web, and carries no profile; nonsense is left out."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (lab, b"nonsense"):
        kept = decoded(clean(encoded(arrow(), "PNG", icc_profile=profile), None).content)
        assert "icc_profile" not in kept.info
        assert differ(kept, arrow()) <= 2


@pytest.mark.parametrize("format_", FORMATS)
def test_nothing_is_kept_but_pixels(format_: str) -> None:
    """Comments, places, and what hangs on behind the image are gone."""
    about, place = PngImagePlugin.PngInfo(), Image.Exif()
    about.add_text("Comment", SECRET)
    place[ExifTags.Base.ImageDescription] = SECRET
    exif = place.tobytes()
    said: dict[str, dict[str, Any]] = {
        "PNG": {"pnginfo": about, "exif": exif},
        "JPEG": {"comment": SECRET, "exif": exif, "xmp": SECRET.encode()},
        "GIF": {"comment": SECRET},
        "WEBP": {"exif": exif, "xmp": SECRET.encode()},
    }
    script = b"<script>alert(1)</script>"
    content = encoded(arrow(), format_, **said[format_]) + script
    assert SECRET.encode() in content
    kept = clean(content, None)
    assert kept.name.endswith(f".{FORMATS[format_]}")
    assert decoded(kept.content).format == format_
    assert SECRET.encode() not in kept.content
    assert script not in kept.content
    assert set(decoded(kept.content).info) <= SAID_BY_FORMATS


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_animations_go_on(format_: str) -> None:
    """An animation keeps its frames, how long each is shown, and how often it begins anew."""
    frames, durations = film(20, 4), [100, 200, 300, 400]
    content = animated(frames, format_, duration=durations, loop=3, **({"comment": SECRET} if format_ == "GIF" else {}))
    kept = clean(content, None).content
    assert SECRET.encode() not in kept
    shown = decoded(kept)
    seen = [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(shown)]
    assert [duration for _, duration in seen] == durations
    assert all(differ(frame, drawn) <= CLOSE for (frame, _), drawn in zip(seen, frames, strict=True))
    assert shown.info["loop"] == 3


def scans(many: int) -> bytes:
    """Return a JPEG of as many pixels as are taken, whose last scan is there so often."""
    content = encoded(Image.new("L", (4_000, PIXELS_MAX // 4_000), 90), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * many + content[-2:]


def text_bomb() -> bytes:
    """Return a PNG whose comment is small as long as nobody unpacks it."""
    about = PngImagePlugin.PngInfo()
    about.add(b"zTXt", b"Comment\0\0" + compress(bytes(100_000_000)))
    return encoded(arrow(), "PNG", pnginfo=about)


BOMBS: Final = {
    "pixels": encoded(Image.new("1", (40_000, 40_000)), "PNG"),
    "just too many pixels": encoded(Image.new("1", (PIXELS_MAX // 1_000 + 1, 1_000)), "PNG"),
    "frames": animated(film(2, FRAMES_MAX + 1), "GIF"),
    "pixels in all frames": animated(film(1_000, 21), "PNG"),
    "scans": scans(SCANS_MAX + 1),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused(content: bytes) -> None:
    """What unpacks to more than is taken is refused, and not unpacked first."""
    assert len(content) < BYTES_MAX
    begun = perf_counter()
    with pytest.raises(ImageTooLarge):
        clean(content, None)
    assert perf_counter() - begun < SECONDS_MAX


def test_the_largest_is_taken() -> None:
    """At each bound an image is still taken, and does not take for ever."""
    begun = perf_counter()
    assert clean(encoded(Image.new("1", (PIXELS_MAX // 1_000, 1_000)), "PNG"), None).width == PIXELS_MAX // 1_000
    assert clean(animated(film(2, FRAMES_MAX), "GIF"), None).width == 2
    assert clean(scans(SCANS_MAX - 20), None).width == 4_000
    assert perf_counter() - begun < SECONDS_MAX


NO_IMAGES: Final = {
    "nothing": b"",
    "a drawing": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "another kind": encoded(arrow(), "BMP"),
    "cut": encoded(arrow(), "PNG")[:-40],
    "cut photograph": encoded(arrow(), "JPEG")[:-40],
    "a comment that explodes": text_bomb(),
}


@pytest.mark.parametrize("content", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    """What is damaged, or of a kind that browsers do not all show, is refused."""
    with pytest.raises(ImageMalformed):
        clean(content, None)


@pytest.mark.parametrize("format_", FORMATS)
def test_an_image_is_what_it_is_said_to_be(format_: str) -> None:
    """An image under the name of another kind is refused, and what it is is told."""
    content, own = encoded(arrow(), format_), TYPES[FORMATS[format_]]
    assert clean(content, own).name == clean(content, None).name
    for said in set(TYPES.values()) - {own}:
        with pytest.raises(ImageMislabelled, match=own):
            clean(content, said)


@settings(law)
@given(format_=st.sampled_from([*FORMATS]), harm=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1))
@example(format_="GIF", harm=[(0.625, 1)])  # makes a frame larger than the image
def test_harm_is_refused_or_does_none(format_: str, harm: list[tuple[float, int]]) -> None:
    """Whatever befalls a file, it is an image of the kind that its name says, or refused."""
    content = bytearray(animated(film(12, 2), format_) if format_ != "JPEG" else encoded(arrow(), format_))
    for where, value in harm:
        content[int(where * (len(content) - 1))] = value
    try:
        kept = clean(bytes(content), None)
    except Refusal:
        return
    shown = decoded(kept.content)
    shown.load()
    assert TYPES[kept.name.rpartition(".")[2]] == f"image/{str(shown.format).lower()}"
    assert shown.size == (kept.width, kept.height)
