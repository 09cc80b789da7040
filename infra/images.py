"""Images as they are uploaded: decoded within bounds, and encoded anew, so that nothing is in them but pixels."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from typing import Any, Final, NamedTuple

from PIL import Image, ImageCms, ImageOps, ImageSequence

from domain.errors import ImageMalformed, ImageMislabelled, ImageTooLarge, Refusal

BYTES_MAX: Final = 4_000_000
PIXELS_MAX: Final = 10_000_000
FRAMES_MAX: Final = 200
PIXELS_OF_ALL_FRAMES_MAX: Final = 20_000_000
"""So much takes 80 MB while it is decoded, and a second or two."""

SCANS_MAX: Final = 100
"""Of a JPEG, which is drawn scan upon scan: one of a few bytes costs as much time as one that fills the image."""

QUALITY: Final = 90

TYPES: Final[Mapping[str, str]] = {
    "gif": "image/gif",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}
"""By the ending of a name, what kind of image it is."""

_ENDINGS: Final = {"GIF": "gif", "JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_NOT_OF_THE_WEB: Final = frozenset({"CMYK", "YCbCr", "LAB", "HSV"})
_TOO_MANY_PIXELS: Final = f"An image has at most {PIXELS_MAX:,} pixels."

_SCAN: Final = b"\xff\xda"
"""What a scan of a JPEG begins with, and nothing that is drawn contains."""

_ORIENTATION: Final = 0x0112
"""The tag of EXIF that says which side is up."""

_one_at_a_time: Final = asyncio.Semaphore(1)


class CleanImage(NamedTuple):
    """An image that may be shown: its bytes, the name that follows from them, and its dimensions in pixels."""

    name: str
    content: bytes
    width: int
    height: int


async def cleaned(content: bytes, said: str | None) -> CleanImage:
    """Return an image without anything but its pixels; `said` is the type it is said to have, if any.

    Raises ImageMalformed, ImageMislabelled or ImageTooLarge.
    """
    async with _one_at_a_time:
        return await asyncio.to_thread(clean, content, said)


def clean(content: bytes, said: str | None) -> CleanImage:
    """Do the same in this thread."""
    try:
        with Image.open(BytesIO(content), formats=tuple(_ENDINGS)) as image:
            ending = _ending(image, said)
            _check_size(image, content)
            width, height, encoded = _encoded(image)
    except Refusal:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(_TOO_MANY_PIXELS) from error
    except Exception as error:  # decoders raise whatever they stumble over
        raise ImageMalformed("The file is not a GIF, JPEG, PNG or WebP image, or it is damaged.") from error
    return CleanImage(f"{sha256(encoded).hexdigest()}.{ending}", encoded, width, height)


def _ending(image: Image.Image, said: str | None) -> str:
    """Return what the name of an image ends with that is only opened yet: nothing of it has been decoded."""
    ending = _ENDINGS[str(image.format)]
    if said is not None and said != TYPES[ending]:
        raise ImageMislabelled(f"The file is said to be {said}, and is {TYPES[ending]}.")
    return ending


def _check_size(image: Image.Image, content: bytes) -> None:
    if image.width * image.height > PIXELS_MAX:
        raise ImageTooLarge(_TOO_MANY_PIXELS)
    if image.format == "JPEG" and content.count(_SCAN) > SCANS_MAX:
        raise ImageTooLarge(f"A JPEG has at most {SCANS_MAX} scans.")


def _encoded(image: Image.Image) -> tuple[int, int, bytes]:
    """Return width, height and bytes of an image in its own format."""
    written = BytesIO()
    if getattr(image, "is_animated", False):
        loop = image.info.get("loop")
        frames = list(_frames(image))
        options: dict[str, Any] = {"duration": [duration for _, duration in frames]}
        # Frames as they were shown: none is drawn upon the one before.
        options |= {"disposal": 2} if image.format == "GIF" else {"quality": QUALITY} if image.format == "WEBP" else {}
        options |= {} if loop is None else {"loop": loop}
        first, *others = (frame for frame, _ in frames)
        first.save(written, image.format, save_all=True, append_images=others, **options)
        return *image.size, written.getvalue()
    image.load()
    drawn = _as_seen(image)
    # The same quantisation again loses next to nothing; but only of what the decoder returned. PNG and GIF heed none.
    quality = "keep" if drawn is image and image.format == "JPEG" else QUALITY
    format_, drawn.info = image.format, _transparency(drawn)
    drawn.save(written, format_, quality=quality)
    return *drawn.size, written.getvalue()


def _frames(image: Image.Image) -> Iterator[tuple[Image.Image, float]]:
    """Yield the frames of an animation, each with the milliseconds for which it is shown.

    Raises ImageTooLarge, or ImageMalformed for a frame that reaches beyond the image, which the decoder would enlarge.
    """
    size = image.size
    allowed = min(FRAMES_MAX, PIXELS_OF_ALL_FRAMES_MAX // (image.width * image.height))
    for number, frame in enumerate(ImageSequence.Iterator(image)):
        if number >= allowed:
            raise ImageTooLarge(
                f"An animation has at most {FRAMES_MAX} frames, and {PIXELS_OF_ALL_FRAMES_MAX:,} pixels in all of them."
            )
        if frame.size != size:
            raise ImageMalformed("A frame of the animation is larger than the image.")
        still = frame.copy()
        still.info = _transparency(frame)
        yield still, frame.info.get("duration", 0)


def _as_seen(image: Image.Image) -> Image.Image:
    """Return an image upright and in the colours of the web, as its metadata says that it is to be shown."""
    upright = image.getexif().get(_ORIENTATION, 1) == 1
    drawn = image if upright else ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    if profile and drawn.mode in {"RGB", "RGBA", "CMYK"}:
        with suppress(ImageCms.PyCMSError, OSError):  # a profile that makes no sense is left out
            srgb, mode = ImageCms.createProfile("sRGB"), "RGBA" if drawn.mode == "RGBA" else "RGB"
            drawn = ImageCms.profileToProfile(drawn, BytesIO(profile), srgb, outputMode=mode) or drawn
    return drawn.convert("RGB") if drawn.mode in _NOT_OF_THE_WEB else drawn


def _transparency(image: Image.Image) -> dict[str | tuple[int, int], Any]:
    return {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
