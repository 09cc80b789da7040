"""Mail: letters that are the same whenever they are written, a folder that has each once, and servers that refuse."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from jinja2 import UndefinedError

from api.background import sending_of
from infra import chart, letters, settings
from infra.mail import Folder, MailFailed, MailRefused, Server
from infra.outbox import Message
from infra.settings import SettingUnfit
from tests.mailbox import REFUSED, Post, text_of, token_in
from tests.running import free_port

SENDER: Final = "Ledger <ledger@example.com>"
LEDGER: Final = UUID("0199a1b2-0000-7000-8000-000000000001")
READER: Final = "vera@example.com"
DAYS: Final = [{"day": f"2026-03-0{number}", "impressions": number * 1_000} for number in range(2, 9)]
REPORT: Final = {
    "reason": "weekly_report",
    "first_day": "2026-03-02",
    "last_day": "2026-03-08",
    "impressions": 35_000,
    "days": DAYS,
    "campaigns": [
        {"name": "Boots <3", "impressions": 35_000, "clicks": 12, "spent_micros": 1_234_500_000, "currency": "EUR"}
    ],
    "more": 1_200,
}


def message_of(content: dict[str, Any], name: str = "weekly_report/2026-03-02") -> Message:
    """Return a message with this content."""
    return Message(
        ledger_id=LEDGER,
        subscriber="mail",
        name=name,
        position=0,
        stream=name,
        content=content,
        created_at=datetime(2026, 3, 9, 6, tzinfo=UTC),
        attempts=0,
    )


def letter_of(content: dict[str, Any], to: str = READER) -> EmailMessage:
    """Return the letter of this content."""
    return letters.compose(message_of(content), to, SENDER, {"public_url": "https://ledger.example"})


def test_a_message_is_the_same_letter_every_time() -> None:
    """A letter that is written again is the same, byte for byte, with its parts and its drawing."""
    first, second = letter_of(REPORT), letter_of(REPORT)
    assert first.as_bytes() == second.as_bytes()
    assert first["Date"] == "Mon, 09 Mar 2026 06:00:00 +0000"
    other = letters.compose(message_of(REPORT, "weekly_report/2026-03-09"), READER, SENDER, {"public_url": ""})
    assert other["Message-ID"] != first["Message-ID"]


def test_a_report_reads_well() -> None:
    """Numbers have their commas, names are escaped where that matters, and the drawing says in words what it shows."""
    letter = letter_of(REPORT)
    assert letter["Subject"] == "The week to 2026-03-08: 35,000 impressions"
    text, html = text_of(letter, "plain"), text_of(letter, "html")
    assert "Boots <3\n    35,000 impressions, 12 clicks, 1,234.50 EUR" in text
    assert "and 1,200 more campaigns." in text
    assert "Boots &lt;3" in html
    assert 'alt="Impressions by day: 2026-03-02 2,000, 2026-03-03 3,000,' in html


@pytest.mark.parametrize(
    ("micros", "said"),
    [(0, "0.00"), (5_000, "0.005"), (1_500_000, "1.50"), (1_234_567_890_000, "1,234,567.89"), (1, "0.000001")],
)
def test_money_is_said_exactly(micros: int, said: str) -> None:
    """An amount is never rounded, and has two decimals at least."""
    assert letters.money(micros, "EUR") == f"{said} EUR"


def test_where_a_letter_leads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A letter links to the page that the operator has for it, with the token where no server sees it; or to none."""
    told, token = {"reason": "verification", "to": READER, "until": "2026-03-10 06:00 UTC"}, "t" * 64

    def letter() -> EmailMessage:
        mailing = sending_of(settings.read(data_dir=tmp_path)).mailing
        known = {"public_url": mailing.public_url, "console_url": mailing.console_url}
        return letters.compose(message_of(told), READER, SENDER, known | {"purpose": "verification", "token": token})

    monkeypatch.setenv("LEDGER_CONSOLE_PATH", "/console")
    monkeypatch.setenv("LEDGER_PUBLIC_URL", "https://ledger.example")
    link = f"https://ledger.example/console#verification={token}"
    assert link in text_of(letter(), "plain").splitlines()
    assert f'<a href="{link}">' in text_of(letter(), "html")
    assert token_in(letter()) == token
    for name in ("LEDGER_CONSOLE_PATH", "LEDGER_PUBLIC_URL"):
        monkeypatch.delenv(name)
        assert "#verification" not in letter().as_string()
        assert token_in(letter()) == token


def test_a_letter_that_lacks_something_is_not_written() -> None:
    """What a template asks for and is not there is an error, not an empty place."""
    with pytest.raises(UndefinedError):
        letter_of({"reason": "creative_denied", "creative": {"name": "Boots"}})


def test_a_chart_of_nothing() -> None:
    """A chart can be drawn of nothing, and of zeros; the same values are the same picture."""
    assert chart.bars([], []).startswith(b"\x89PNG")
    assert chart.bars(["a"], [0]) == chart.bars(["a"], [0]) != chart.bars(["a", "b"], [0, 1])


async def test_a_folder_has_each_letter_once(tmp_path: Path) -> None:
    """Without a server letters are files, for their owner alone; the same letter again is the same file."""
    folder = Folder(tmp_path / "mail")
    letter = letter_of(REPORT)
    for _ in range(2):
        await folder.send(letter)
    (kept,) = (tmp_path / "mail").iterdir()
    assert (kept.suffix, (tmp_path / "mail").stat().st_mode & 0o077) == (".eml", 0)
    read = message_from_bytes(kept.read_bytes(), policy=policy.default)
    assert (read["To"], read["Subject"]) == (READER, letter["Subject"])


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """A folder that cannot be made is a failure that passes, perhaps."""
    (tmp_path / "mail").write_text("a file")
    with pytest.raises(MailFailed, match="cannot be used"):
        await Folder(tmp_path / "mail").send(letter_of(REPORT))


async def test_a_server_that_is_not_there() -> None:
    """Nobody who listens is a failure that passes, perhaps."""
    with pytest.raises(MailFailed):
        await Server(f"smtp://127.0.0.1:{free_port()}").send(letter_of(REPORT))


async def test_a_server_that_refuses(tmp_path: Path) -> None:
    """A reader whom the server does not know is refused for ever; and no password is told without encryption."""
    post = Post(tmp_path)
    post.open()
    try:
        with pytest.raises(MailRefused, match="550"):
            await Server(post.url).send(letter_of(REPORT, REFUSED))
        with pytest.raises(MailFailed):
            await Server(post.url.replace("//", "//user:word@")).send(letter_of(REPORT))
        assert post.raw() == []
        await Server(post.url).send(letter_of(REPORT))
        assert len(post.letters(READER)) == 1
    finally:
        post.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LEDGER_SMTP_URL", "mail.example"),
        ("LEDGER_SMTP_URL", "https://mail.example"),
        ("LEDGER_MAIL_FROM", "nobody"),
        ("LEDGER_MAIL_FROM", "Ledger <a@b\r\nBcc: c@d>"),
        ("LEDGER_MESSAGE_RETRY_SECONDS", "soon"),
        ("LEDGER_MESSAGE_RETRY_SECONDS", "1,-1"),
        ("LEDGER_WEBHOOK_NETWORKS", "the cellar"),
        ("LEDGER_CONSOLE_PATH", "https://console.example"),
        ("LEDGER_CONSOLE_PATH", "/console#/"),
    ],
)
def test_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    """What is no server, no address, no time, no network or no path is refused by its name."""
    monkeypatch.setenv(name, said)
    with pytest.raises(SettingUnfit, match=name):
        settings.read()
