"""The accounts that are watched: one row each, and never a safety that nobody knows of."""

import pytest
from dydx_panels import AccountRow, Snapshot, Theme, View, dashboard, panel, selectable
from msgspec.structs import replace

OWNER = "dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km"
OTHER = "dydx1l27zdyeq7atgf98eef36dds5aatfagyz9e4njq"
ALONE = View(panel="accounts")


def drawn(*rows: AccountRow, width: int = 160, view: View = ALONE) -> list[str]:
    """Draw the panel; return its lines without their frame."""
    shown = panel("accounts", Snapshot(accounts=rows), width, 16, view).text
    return [line[2:-2].rstrip() for line in shown.splitlines()[1:-1]]


def test_each_account_has_a_row_with_its_distance_and_whose_word_it_is(full: Snapshot) -> None:
    """The one that the other panels show is marked."""
    rows = drawn(*full.accounts)

    assert rows[1].startswith("●dydx1lwz…sn6km/0       SAFE         43.7 %")
    assert "12,345.67" in rows[1]
    assert rows[1].endswith("chain, block 41000331")
    assert rows[2].startswith(" dydx1lwz…sn6km/128     DANGER        3.7 %")
    assert "indexer only, block 41000330" in rows[2]


def test_what_is_not_known_is_no_safety_and_has_its_reason(full: Snapshot) -> None:
    """Below its row; one that is flat says so, and is not safe because nothing is there."""
    rows = drawn(*full.accounts)

    assert rows[3].split()[1:3] == ["UNKNOWN", "unknown"]
    assert rows[4].strip() == "no account snapshot yet"
    assert rows[5].split()[1:4] == ["UNKNOWN", "unknown", "0.00"]
    assert rows[6].strip() == "nothing was ever deposited here, on testnet"
    flat = AccountRow(id=f"{OTHER}/1", equity=5.0, positions=0, orders=0)
    assert drawn(flat)[1].split()[1:4] == ["FLAT", "none", "5.00"]
    lost = AccountRow(id=f"{OTHER}/1", positions=2, trouble="account frames were lost")
    assert drawn(lost)[1].split()[1:3] == ["UNKNOWN", "unknown"]


def test_the_past_of_the_selected_account_stands_below_all(full: Snapshot) -> None:
    """With its whole address; where there is none, nothing."""
    rows = drawn(*full.accounts, view=View(panel="accounts", selected=0))

    at = rows.index(f"{OWNER}/0")
    assert rows[at + 1 : at + 3] == ["profit   24 h +120.50  7 d +90.00", "funding  24 h -0.31"]
    assert f"{OTHER}/0" not in drawn(*full.accounts, view=View(panel="accounts", selected=2))


@pytest.mark.parametrize("width", [40, 80, 120, 250])
def test_the_account_and_its_distance_stay_on_every_width(full: Snapshot, width: int) -> None:
    """Other columns give way."""
    rows = drawn(*full.accounts, width=width)

    assert rows[1].startswith("●dydx1lwz…sn6km/0")
    assert "43.7 %" in rows[1]


def test_a_terminal_without_unicode_shows_the_same(full: Snapshot) -> None:
    """The mark and the cut have letters of their own."""
    theme = Theme(unicode=False, colours="")
    text = panel("accounts", Snapshot(accounts=full.accounts), 100, 12, ALONE, theme).text

    assert text.isascii()
    assert "dydx1lwz~sn6km/0" in text


def test_without_a_watched_account_the_panel_says_how_to_watch_one() -> None:
    """It is no empty box."""
    assert drawn()[0].startswith("no account is watched: bot watch ADDRESS")


def test_rows_are_chosen_by_address_and_number(full: Snapshot) -> None:
    """As Enter takes them."""
    ids = selectable(Snapshot(accounts=full.accounts), ALONE)

    assert ids == (f"{OWNER}/0", f"{OWNER}/128", f"{OTHER}/0", f"{OTHER}/1")


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 38), (200, 60), (250, 70)])
def test_several_accounts_stand_once_on_the_first_screen(
    full: Snapshot, width: int, height: int
) -> None:
    """Of an account alone the dashboard shows all there is."""
    header, safety = replace(full.header, mode="WATCH"), replace(full.safety, advice=True)
    many = replace(full, header=header, safety=safety)
    one = replace(many, accounts=many.accounts[:1])

    texts = [dashboard(each, View(), width, height).text for each in (many, one)]

    assert texts[0].count("Accounts 4") == 1
    assert ("Accounts" in texts[1]) is (width != 120)


def test_an_account_whose_advice_is_due_is_not_safe(full: Snapshot) -> None:
    """Whoever should act now reads that there is something to watch."""
    safe = next(row for row in full.accounts if "SAFE" in drawn(row)[1])

    assert "WATCH" in drawn(replace(safe, due=True))[1]
