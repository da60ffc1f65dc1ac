"""The outlook of funding against the stand-in's own settlement."""

import funding


def test_the_outlook_at_the_tick_is_what_the_stand_in_settles() -> None:
    """To 1 ppm, in a squeeze, and no further off before it than earlier.

    `tools/funding.py` follows 20 whole hours; here it is the end of one.
    """
    assert funding.main(["--seeds", "1", "--minutes", "4"]) == 0
