import math

import pytest

from tangentscope.pipeline.report import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "−∞"), (0, "0"), (1234567, "1,234,567"),
        (0.0, "0"), (0.0012345678, "0.001235"), (0.123456, "0.1235"), (12.3456, "12.35"), (-3.14159, "−3.142"),
            (65432.1, "65,432"),
        (1.2346e-7, "1.235 × 10⁻⁷"), (-9.8766e12, "−9.877 × 10¹²"),
    ],
)  # fmt: skip
def test_numbers_have_four_significant_digits(value, text):
    assert formatting.number(value).replace(formatting.NBSP, " ") == text


@pytest.mark.parametrize(
    ("value", "text"), [(12.0, "12"), (-1234.0, "−1,234"), (2.4, "2.40"), (1234.5, "1,234"), (math.nan, "NaN")]
)
def test_counts_have_no_decimals(value, text):
    assert formatting.counted(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (math.nan, "–"), (0, "0 ms"), (2.5e-5, "25 µs"), (0.0123, "12.3 ms"), (4.207, "4.21 s"),
        (200, "3 min 20 s"), (7500, "2 h 5 min"), (2 * 86400, "2 days"),
    ],
)  # fmt: skip
def test_durations_pick_their_unit(seconds, text):
    assert formatting.duration(seconds).replace(formatting.NBSP, " ") == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1_230_000, "1.23 MB"), (16e9, "16 GB"), (3e15, "3 PB")],
)
def test_bytes_have_si_units(count, text):
    assert formatting.size(count).replace(formatting.NBSP, " ") == text


def test_shares_and_moments():
    assert formatting.percent(0.00125).replace(formatting.NBSP, " ") == "0.125 %"
    assert formatting.percent(12.5).replace(formatting.NBSP, " ") == "1,250 %"
    assert formatting.milliseconds(1.234) == "1,234"
    assert formatting.percent(None) == formatting.moment(None) == "–"
    assert formatting.moment(0) == "1970-01-01 00:00 UTC"
