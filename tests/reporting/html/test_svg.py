import pytest

from tfopt.reporting.html.svg import (
    Scale,
    compact_text,
    drawing,
    element,
    padded_scale,
    path,
    text,
    tick_text,
)


def test_text_and_attributes_are_escaped():
    made = element("text", {"x": 1.0, "data-name": '"><b>'}, "<i>&</i>")
    assert made == '<text x="1" data-name="&#34;&gt;&lt;b&gt;">&lt;i&gt;&amp;&lt;/i&gt;</text>'


def test_markup_inside_an_element_is_kept():
    inner = element("circle", {"r": 1.5, "class": None})
    assert element("g", {}, inner) == '<g><circle r="1.5"/></g>'


def test_a_drawing_is_named_for_screen_readers():
    made = drawing([text(1, 2, "a")], size=(10, 20), plot_id="p1", title="A & b")
    assert 'role="img" aria-labelledby="p1-title"' in made
    assert '<title id="p1-title">A &amp; b</title><text' in made


def test_a_path_is_compact():
    assert path([(0.0, 1.0), (1 / 3, 2.0)], "line") == '<path class="line" d="M0,1L0.33,2"/>'


def test_a_linear_scale_maps_both_ends():
    scale = Scale(2, 4, 100, 0)
    assert (scale(2), scale(3), scale(4)) == (100, 50, 0)


def test_a_log_scale_maps_equal_factors_to_equal_steps():
    scale = Scale(1, 100, 0, 10, is_log=True)
    assert scale(10) == pytest.approx(5)


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-3.0], [1e-30], [1e30], [0.5, 0.5 + 1e-12]])
def test_equal_values_get_a_scale_with_ticks(values):
    scale = padded_scale(values, start=100, end=0)
    assert scale.low < min(values) <= max(values) < scale.high
    assert 1 <= len(scale.ticks(4)) <= 10
    assert 0 < scale(values[0]) < 100


@pytest.mark.parametrize("values", [[7.0], [1.0, 1e9], [17_000.0, 19_000.0], [1e-9, 2e-9]])
def test_log_scales_have_ticks_inside(values):
    scale = padded_scale(values, start=0, end=100, is_log=True)
    ticks = scale.ticks(5)
    assert 2 <= len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [
        (0.0, 0.1, "0"),
        (0.985, 0.005, "0.985"),
        (98.5, 0.5, "98.5"),
        (1200.0, 200.0, "1,200"),
        (2e-7, 1e-7, "2e-07"),
        (0.5, 0.0, "0.500"),
    ],
)
def test_ticks_show_the_decimals_they_need(value, step, expected):
    assert tick_text(value, step) == expected


def test_large_numbers_are_short():
    shorts = [compact_text(value) for value in (0.25, 950, 17_800, 1_727_588, 2.5e9)]
    assert shorts == ["0.25", "950", "17.8k", "1.73M", "2.5G"]
