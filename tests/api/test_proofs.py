"""The log over HTTP: checkpoint, tiles and entries as other software reads them, and proofs that hold."""

import base64
import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from domain import merkle
from infra import checkpoint, signed_note, tiles
from tests.running import Service
from tests.world import World

WAIT_SECONDS_MAX = 15
ADVERTISERS = 300


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service whose log is this module's alone."""
    return own_service


@pytest.fixture(scope="module")
def sealed(service: Service, admin: httpx.Client) -> int:
    """A log with a full tile and a part of another, sealed; its size."""
    world = World(service, admin)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: world.advertiser(), range(ADVERTISERS)))
    return wait_for_size(service, ADVERTISERS)


@pytest.fixture
def anybody(service: Service) -> Iterator[httpx.Client]:
    """A client without credentials."""
    with service.client() as client:
        yield client


def wait_for_size(service: Service, size: int) -> int:
    """Wait until so many entries are sealed, and return how many are."""
    deadline = monotonic() + WAIT_SECONDS_MAX
    with service.client() as client:
        while monotonic() < deadline:
            answer = client.get("/audit/v1/log/checkpoint")
            if answer.status_code == 200 and (found := int(answer.text.split("\n")[1])) >= size:
                return found
            sleep(0.05)
    raise AssertionError("the log was not sealed")


def test_the_checkpoint_is_a_signed_note(service: Service, anybody: httpx.Client, sealed: int) -> None:
    """Anybody can read the checkpoint, which is text, signed by the log's key, and cached for a moment only."""
    answer = anybody.get("/audit/v1/log/checkpoint")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=1"
    note = signed_note.parse(answer.content)
    assert checkpoint.parse(note.text).size == sealed
    assert len(note.signatures) == 1
    assert (service.data_dir / f"log-{checkpoint.parse(note.text).origin.partition('/')[2]}.checkpoint").exists()


def test_the_service_says_that_it_seals(anybody: httpx.Client, sealed: int) -> None:
    """Readiness tells whether the log is sealed as it grows."""
    assert sealed
    assert anybody.get("/health/ready").json()["seal"] == "ok"


def test_the_tree_is_made_of_the_entries(anybody: httpx.Client, admin: httpx.Client, sealed: int) -> None:
    """From the resources alone, as a foreign client fetches them, the signed root is computed again."""
    note = signed_note.parse(anybody.get("/audit/v1/log/checkpoint").content)
    leaves: list[bytes] = []
    for place in tiles.places(sealed):
        client = admin if place.level is None else anybody
        answer = client.get(f"/audit/v1/log/tile/{place.path}")
        assert answer.status_code == 200, (place.path, answer.text)
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Cache-Control"].endswith("max-age=31536000, immutable")
        if place.level is None:
            leaves += map(merkle.leaf_hash, tiles.entries_of(answer.content))
        else:
            _, made = merkle.extended(merkle.EMPTY_EDGE, b"".join(leaves))
            assert answer.content in {tile.hashes for tile in made if tile[:2] == (place.level, place.number)}
    assert merkle.root(leaves) == checkpoint.parse(note.text).root


def test_partial_resources_stay_what_they_were(anybody: httpx.Client, admin: httpx.Client, sealed: int) -> None:
    """A part of a tile or a bundle can be had at every width that was ever the log's end, and is a beginning of it."""
    whole = anybody.get("/audit/v1/log/tile/0/000").content
    entries = tiles.entries_of(admin.get("/audit/v1/log/tile/entries/000").content)
    assert (len(whole), len(entries)) == (8_192, 256)
    assert sealed > 256
    for width in (1, 17, 255):
        assert anybody.get(f"/audit/v1/log/tile/0/000.p/{width}").content == whole[: 32 * width]
        part = admin.get(f"/audit/v1/log/tile/entries/000.p/{width}").content
        assert tiles.entries_of(part) == entries[:width]


def test_entry_bundles_are_compressed_for_who_takes_that(service: Service, admin: httpx.Client, sealed: int) -> None:
    """A bundle travels compressed or as it is, and is the same."""
    assert sealed
    headers = {"Authorization": admin.headers["Authorization"]}
    path = f"{service.url}/audit/v1/log/tile/entries/000"
    with httpx.stream("GET", path, headers=headers | {"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = b"".join(answer.iter_raw())
    plain = httpx.get(path, headers=headers | {"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed) == plain.content


@pytest.mark.parametrize(
    "path",
    [
        "0/999",
        "0/001",
        "0/002.p/1",
        "0/001.p/200",
        "1/000",
        "9/000",
        "0/0",
        "0/000.p/256",
        "0/000.p/0",
        "64/000",
        "0/x000/000",
    ],
)
def test_what_the_tree_does_not_have_is_not_found(anybody: httpx.Client, sealed: int, path: str) -> None:
    """Tiles past the end, wider than they are, or written in another way, are not there."""
    assert sealed < 400
    answer = anybody.get(f"/audit/v1/log/tile/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["999", "001", "001.p/200", "0", "x000/000", "000.p/256"])
def test_entries_that_are_not_sealed_are_not_found(admin: httpx.Client, sealed: int, path: str) -> None:
    """A bundle past the end, or wider than the end allows, is not there."""
    assert sealed < 400
    assert admin.get(f"/audit/v1/log/tile/entries/{path}").status_code == 404


@pytest.mark.parametrize("path", ["log/tile/entries/000", "proofs/inclusion?position=1", "proofs/consistency?from=1"])
def test_entries_need_an_auditor(anybody: httpx.Client, path: str) -> None:
    """What shows entries, or is made on demand, is not for everybody."""
    assert anybody.get(f"/audit/v1/{path}").status_code == 401


def hashes_of(proof: dict[str, Any]) -> list[bytes]:
    """Return the hashes of a proof."""
    return [base64.b64decode(each) for each in proof["hashes"]]


def test_an_entry_is_proved(admin: httpx.Client, sealed: int) -> None:
    """The proof of any position leads from the entry's bytes to the root in the signed checkpoint."""
    for position in (1, 2, 256, 257, sealed):
        proof = admin.get("/audit/v1/proofs/inclusion", params={"position": position}).json()
        tree = checkpoint.parse(signed_note.parse(proof["checkpoint"].encode()).text)
        assert (tree.size, base64.b64encode(tree.root).decode()) == (proof["size"], proof["root"])
        leaf = merkle.leaf_hash(proof["entry"].encode())
        assert base64.b64encode(leaf).decode() == proof["leaf_hash"]
        assert merkle.verify_inclusion(leaf, position - 1, tree.size, hashes_of(proof), tree.root)


def test_an_entry_is_proved_in_a_file(admin: httpx.Client, sealed: int) -> None:
    """The same proof as a file that holds everything: the entry, its index, the hashes, and the checkpoint."""
    answer = admin.get("/audit/v1/proofs/inclusion", params={"position": 3, "format": "tlog-proof"})
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="position-3.tlog-proof"'
    head, _, note = answer.text.partition("\n\n")
    version, extra, index, *hashes = head.split("\n")
    assert (version, index) == ("c2sp.org/tlog-proof@v1", "index 2")
    leaf = merkle.leaf_hash(base64.b64decode(extra.removeprefix("extra ")))
    tree = checkpoint.parse(signed_note.parse(note.encode()).text)
    assert merkle.verify_inclusion(leaf, 2, sealed, [base64.b64decode(each) for each in hashes], tree.root)


def test_a_tree_is_proved_to_continue_another(admin: httpx.Client, sealed: int) -> None:
    """The proof from any size leads to the root in the signed checkpoint."""
    for old in (0, 1, 200, 256, sealed):
        proof = admin.get("/audit/v1/proofs/consistency", params={"from": old, "to": sealed}).json()
        roots = base64.b64decode(proof["old_root"]), base64.b64decode(proof["root"])
        assert merkle.verify_consistency(old, sealed, hashes_of(proof), *roots)
    text = admin.get("/audit/v1/proofs/consistency", params={"from": 200, "format": "tlog-proof"}).text
    assert text.startswith("old 200\n")
    assert signed_note.parse(text.partition("\n\n")[2].encode())


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("inclusion?position=100000", 404, "not_sealed"),
        ("inclusion?position=1&size=100000", 404, "not_sealed"),
        ("inclusion?position=0", 400, "malformed_request"),
        ("inclusion", 400, "malformed_request"),
        ("inclusion?position=1&format=xml", 400, "malformed_request"),
        ("consistency?from=100000", 422, "sizes_out_of_order"),
        ("consistency?from=1&to=100000", 404, "not_sealed"),
        ("consistency?from=-1", 400, "malformed_request"),
    ],
)
def test_what_cannot_be_proved_is_refused(admin: httpx.Client, sealed: int, path: str, status: int, code: str) -> None:
    """Positions and sizes that are not sealed, or in the wrong order, are refused with a reason."""
    assert sealed
    answer = admin.get(f"/audit/v1/proofs/{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
