import re

from tfopt.reporting.html.histograms import histogram_card
from tfopt.results import WeightHistogram


def card(**changes):
    settings = {
        "layer": "conv",
        "edges": [-1.0, -0.5, 0.1, 0.5, 1.0],
        "before": [10, 20, 20, 10],
        "after": [1, 97, 2, 0],
    }
    return histogram_card(WeightHistogram(**{**settings, **changes}), plot_id="w")


def test_the_bar_at_zero_is_cut_when_it_dwarfs_the_others():
    made = card()
    assert made.svg.count('class="cut"') == 1
    heights = [
        abs(float(h)) for h in re.findall(r"v(-?[\d.]+)H", made.svg.split('class="bar after"')[1])
    ]
    # 97 weights at zero are cut at the height of the longest other bar, of 2 weights.
    assert heights == [26.0, 52.0, 52.0]


def test_an_ordinary_bar_at_zero_is_not_cut():
    assert 'class="cut"' not in card(after=[10, 20, 20, 10]).svg


def test_before_is_drawn_up_and_after_down():
    before, after = re.findall(r'class="bar \w+" d="([^"]+)"', card().svg)
    assert "v-" in before
    assert "v-" not in after


def test_numbers_beside_the_plot():
    made = card(zero_fraction_before=0.0, zero_fraction_after=0.9712, unique_before=25_000)
    assert made.zeros == ("0.0%", "97.1%")
    assert made.zero_percent == 97.1
    assert made.unique == ("25,000", "n/a")


def test_unknown_zeros_have_no_meter():
    assert card(zero_fraction_after=float("nan")).zero_percent is None


def test_empty_counts_draw_an_axis_only():
    made = card(before=[0, 0, 0, 0], after=[0, 0, 0, 0])
    assert "bar" not in made.svg
    assert 'class="axis"' in made.svg
