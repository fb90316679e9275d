"""Who is refused too often: allowances, bans that grow, known sources, and books that stay small."""

from __future__ import annotations

from bridge.sip.scanners import ScannerBook, ScannerOptions, source_key

HOST = "192.0.2.66"
QUICK = ScannerOptions(allowance=3, refill_per_s=0.5, first_ban_s=60, longest_ban_s=200, forget_after_s=1000)


def banned_after(book: ScannerBook, host: str, now: float) -> int:
    """How many refusals were answered before the ban."""
    for count in range(1000):
        if not book.blame(host, now, may_ban=True):
            return count
    raise AssertionError("never banned")


def test_the_allowance_is_used_up_and_grows_back() -> None:
    book = ScannerBook(QUICK)
    assert [book.blame(HOST, 0, may_ban=False) for _ in range(4)] == [True, True, True, False]
    assert not book.is_banned(HOST, 0)
    assert not book.blame(HOST, 1.9, may_ban=False)
    assert book.blame(HOST, 2.0, may_ban=False)
    assert not book.blame(HOST, 2.0, may_ban=False)
    assert [book.blame(HOST, 1e6, may_ban=False) for _ in range(4)] == [True, True, True, False]  # not more than full


def test_a_flood_does_not_keep_the_allowance_from_growing_back() -> None:
    book = ScannerBook(QUICK)
    answered = sum(book.blame(HOST, tick / 100, may_ban=False) for tick in range(1000))
    assert answered == 3 + 4  # ten seconds at one in two seconds; the last whole one is at 10.0


def test_bans_double_up_to_a_longest_one() -> None:
    book = ScannerBook(QUICK)
    assert banned_after(book, HOST, 0) == 3
    for began, length in ((0.0, 60), (60.0, 120), (180.0, 200), (380.0, 200)):
        assert book.is_banned(HOST, began + length - 0.1)
        assert not book.blame(HOST, began + length - 0.1, may_ban=True)
        assert not book.is_banned(HOST, began + length)
        assert banned_after(book, HOST, began + length) >= 1
    assert book.bans == 5
    assert book.banned(580) == 1


def test_after_a_quiet_time_a_ban_is_short_again() -> None:
    book = ScannerBook(QUICK)
    banned_after(book, HOST, 0)
    banned_after(book, HOST, 60)
    banned_after(book, HOST, 1060)
    assert book.is_banned(HOST, 1119)
    assert not book.is_banned(HOST, 1121)


def test_costs_differ() -> None:
    book = ScannerBook(QUICK)
    assert book.blame(HOST, 0, cost=2.5, may_ban=True)
    assert not book.blame(HOST, 0, cost=1, may_ban=True)
    assert book.is_banned(HOST, 0)


def test_known_sources_are_never_banned() -> None:
    book = ScannerBook(QUICK)
    banned_after(book, HOST, 0)
    book.know(HOST, 1)
    assert book.is_known(HOST, 1)
    assert book.is_known("::ffff:192.0.2.66", 1)
    assert not book.is_banned(HOST, 1)
    banned_after(book, HOST, 2)
    assert not book.is_banned(HOST, 2)
    later = 1 + 7 * 86_400
    assert not book.is_known(HOST, later)
    assert not book.is_known("192.0.2.67", 1)


def test_ipv6_counts_by_its_64() -> None:
    assert source_key("2001:db8::1:2:3:4") == source_key("2001:db8::ffff") == "2001:db8::"
    assert source_key("2001:db8:0:1::1") == "2001:db8:0:1::"
    assert source_key("::ffff:192.0.2.1") == source_key("192.0.2.1") == "192.0.2.1"
    assert source_key("nonsense") == "nonsense"
    book = ScannerBook(QUICK)
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8::3"):
        assert book.blame(host, 0, may_ban=True)
    assert not book.blame("2001:db8::4", 0, may_ban=True)
    assert book.is_banned("2001:db8::5", 0)
    book.know("2001:db8::6", 0)
    banned_after(book, "2001:db8::4", 0)
    assert book.is_banned("2001:db8::4", 0)
    assert not book.is_banned("2001:db8::6", 0)


def test_a_change_of_trunks_pardons_everybody() -> None:
    book = ScannerBook(QUICK)
    banned_after(book, HOST, 0)
    book.pardon()
    assert not book.is_banned(HOST, 0)
    assert banned_after(book, HOST, 0) == 3


def test_the_books_are_bounded() -> None:
    book = ScannerBook(ScannerOptions(allowance=0, max_watched=5, max_banned=4, max_known=3))
    for number in range(10):
        assert not book.blame(f"192.0.2.{number}", 0, may_ban=True)
    assert book.banned(0) == 4
    assert [book.is_banned(f"192.0.2.{number}", 0) for number in (5, 6, 9)] == [False, True, True]
    for number in range(10):
        book.know(f"198.51.100.{number}", 0)
    assert [book.is_known(f"198.51.100.{number}", 0) for number in (6, 7, 9)] == [False, True, True]


def test_who_watched_sources_push_out_begins_anew() -> None:
    book = ScannerBook(ScannerOptions(allowance=1, max_watched=1))
    assert book.blame("192.0.2.1", 0, may_ban=True)
    assert book.blame("192.0.2.2", 0, may_ban=True)
    assert book.blame("192.0.2.1", 0, may_ban=True)
