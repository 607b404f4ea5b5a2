"""One colour per join round, readable on light and on dark ground, and the same in every figure."""

import math

# The ramp runs from indigo (joined first, optimised longest) over teal to amber (joined last, close
# to the photo). Lightness rises along it: the order survives colour blindness and grey prints.
HUES = (282.0, 78.0)
LIGHT_GROUND = (0.40, 0.76)  # OKLCH lightness of the first and the last round on a light page
DARK_GROUND = (0.64, 0.90)  # and on a dark one
CHROMA = 0.13


def join_round_colours(rounds: int) -> list[tuple[str, str]]:
    """Returns `(on light ground, on dark ground)` as `#rrggbb` for each of `rounds` join rounds."""
    colours = []
    for index in range(rounds):
        along = index / (rounds - 1) if rounds > 1 else 0.0
        hue = HUES[0] + (HUES[1] - HUES[0]) * along
        colours.append(
            tuple(
                oklch_to_hex(first + (last - first) * along, CHROMA, hue)
                for first, last in (LIGHT_GROUND, DARK_GROUND)
            )
        )
    return colours


def oklch_to_hex(lightness: float, chroma: float, hue: float) -> str:
    """Converts OKLCH (hue in degrees) to `#rrggbb`, with as much of the chroma as sRGB can show."""
    channels = _oklch_to_linear_srgb(lightness, chroma, hue)
    while chroma > 0 and not all(-1e-4 <= channel <= 1 + 1e-4 for channel in channels):
        chroma = max(chroma - 0.005, 0.0)
        channels = _oklch_to_linear_srgb(lightness, chroma, hue)
    return "#" + "".join(f"{round(255 * _encode(channel)):02x}" for channel in channels)


def _oklch_to_linear_srgb(lightness: float, chroma: float, hue: float) -> tuple[float, ...]:
    """The inverse of OKLab's definition, https://bottosson.github.io/posts/oklab/."""
    a, b = (chroma * f(math.radians(hue)) for f in (math.cos, math.sin))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _encode(linear: float) -> float:
    linear = min(max(linear, 0.0), 1.0)
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
