"""Letters: what a message of the outbox reads as, in text and HTML.

The same message is the same letter, byte for byte, whenever it is written.
"""

from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from hashlib import sha256
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from infra import chart
from infra.outbox import Message

CHART: Final = "chart"
ID_CHARACTERS: Final = 32
MICROS: Final = 1_000_000

_templates: Final = Environment(
    loader=PackageLoader("infra", "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def money(micros: int, currency: str) -> str:
    """Return an amount as people read it, exactly: `1,234.50 EUR`, `0.015 EUR`."""
    units, rest = divmod(micros, MICROS)
    return f"{units:,}.{f'{rest:06}'.rstrip('0'):0<2} {currency}"


_templates.filters["money"] = money
_templates.filters["count"] = "{:,}".format


def compose(message: Message, to: str, sender: str, known: Mapping[str, Any]) -> EmailMessage:
    """Return the letter of a message to an address, with what else its template asks for, such as `public_url`.

    Raises jinja2.TemplateError, KeyError or ValueError.
    """
    content = message.content or {}
    reason = content["reason"]
    values = {**content, **known, "chart": f"{CHART}@{reason}"}
    text = _templates.get_template(f"{reason}.txt")
    subject = "".join(text.blocks["subject"](text.new_context(values))).strip()
    letter = EmailMessage()
    letter["Subject"] = subject
    letter["From"] = sender
    letter["To"] = to
    letter["Date"] = format_datetime(message.created_at)
    name = id_of(message)
    letter["Message-ID"] = f"<{name}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is answered to it
    letter.set_content(text.render(values))
    letter.add_alternative(
        _templates.get_template(f"{reason}.html").render(values | {"subject": subject}), subtype="html"
    )
    if days := content.get("days"):
        drawing = chart.bars([each["day"][5:] for each in days], [each["impressions"] for each in days])
        page = letter.get_body(("html",))
        assert page is not None  # noqa: S101  it was added above
        page.add_related(drawing, "image", "png", cid=f"<{CHART}@{reason}>", filename="chart.png")
    for number, part in enumerate(part for part in letter.walk() if part.is_multipart()):
        part.set_boundary(f"{number}-{name}")
    return letter


def id_of(message: Message) -> str:
    """Return what a letter is called wherever it goes: it follows from the reason alone."""
    name = f"{message.ledger_id}\n{message.subscriber}\n{message.name}"
    return sha256(name.encode()).hexdigest()[:ID_CHARACTERS]
