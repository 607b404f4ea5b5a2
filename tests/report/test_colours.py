"""The colours of the join rounds."""

from delt_jax.report.colours import join_round_colours, oklch_to_hex


def test_colours_order_the_rounds():
    assert oklch_to_hex(1.0, 0.0, 0.0) == "#ffffff"
    assert oklch_to_hex(0.0, 0.0, 0.0) == "#000000"
    assert oklch_to_hex(0.5999, 0.0, 0.0) == "#808080"
    assert oklch_to_hex(0.6, 0.1, 29.23) == "#b4685d"

    def luminance(colour):
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for ground in zip(*join_round_colours(8), strict=True):
        values = [luminance(colour) for colour in ground]
        assert values == sorted(values)
        assert len(set(ground)) == 8
    assert len(join_round_colours(1)) == 1
