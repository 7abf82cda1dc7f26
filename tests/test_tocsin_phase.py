"""Wrapping, averaging without the wrap, and pictures back to phase."""

import math

import numpy as np
import pytest
from PIL import Image

from tocsin.errors import NotARasterError, TruncatedError, UsageError, WrongUnitsError
from tocsin.phase import RAD_PER_METRE, of_motion, resample, wrap
from tocsin.phase_palette import chain, cut_to, palette_colours
from tocsin.phase_pictures import HUES, from_colours, from_grey, read_picture


def fringes(size=224, rate=0.06):
    """Return smooth wrapped phase over all directions: a ramp and a bowl."""
    row, col = np.mgrid[:size, :size].astype(np.float64)
    bowl = 4 * np.exp(-((row - size / 2) ** 2 + (col - size / 3) ** 2) / (size / 5) ** 2)
    return wrap((rate * (0.6 * row + 0.8 * col) + bowl).astype(np.float32))


def apart(one, other):
    """Return the angle between phases, rad, where both are known."""
    gap = np.angle(np.exp(1j * (one.astype(np.float64) - other)))
    return np.abs(gap[np.isfinite(gap)])


def rms(values):
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def painted(phase):
    """Return phase in the palette at 24 bits."""
    _, colours = palette_colours()
    step = np.floor((phase + 3.15) / 0.025).astype(int)
    return np.rint(colours[step]).astype(np.uint8)


def hued(phase, brightness=170):
    """Return phase in 16 hues at one brightness; the first hue is centred on zero."""
    turn = np.rint(phase / (2 * math.pi) * 16).astype(int) % 16
    return np.rint(HUES[turn] * brightness / 170).astype(np.uint8)


def shrunk(rgb):
    """Return a picture shrunk to 30 % and cut to three bits."""
    small = Image.fromarray(rgb).resize((rgb.shape[1] * 3 // 10, rgb.shape[0] * 3 // 10), Image.Resampling.LANCZOS)
    return cut_to(np.asarray(small).astype(np.int64), 3).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_phase_is_wrapped_into_the_half_open_interval(dtype):
    """-pi becomes pi, nothing reaches -pi or leaves pi in any precision, and NaN stays."""
    phase = np.array([-math.pi, math.pi, 3 * math.pi, -3 * math.pi, 0, 7, -1e3, np.nan, np.inf], dtype)
    wrapped = wrap(phase)
    assert wrapped.dtype == dtype
    exact = wrapped[:7].astype(np.float64)
    assert ((exact > -math.pi) & (exact <= math.pi)).all()
    np.testing.assert_allclose(np.abs(exact[:4]), math.pi, atol=1e-6)
    np.testing.assert_allclose(np.exp(1j * exact), np.exp(1j * phase[:7].astype(np.float64)), atol=1e-6)
    assert np.isnan(wrapped[7:]).all()


def test_wrapping_twice_changes_nothing():
    """Phase next to pi on both sides stays where it is."""
    phase = np.nextafter(np.float32(math.pi), np.array([0, 4], np.float32))
    once = wrap(np.concatenate([phase, -phase]))
    np.testing.assert_array_equal(wrap(once), once)


def test_motion_toward_the_satellite_is_negative_phase():
    """A quarter of a fringe toward the satellite is -pi / 2; a whole fringe is nothing."""
    quarter = math.pi / 2 / RAD_PER_METRE
    np.testing.assert_allclose(
        of_motion(np.array([quarter, 4 * quarter, 5 * quarter])), [-math.pi / 2, 0, -math.pi / 2]
    )
    assert np.isnan(of_motion(np.array([np.nan], np.float32))).all()


def test_averages_never_cross_the_wrap():
    """The mean of 3.1 and -3.1 is pi, not 0, in every way of resampling."""
    phase = np.tile(np.array([3.1, -3.1], np.float32), (8, 4))
    for factor in ((2, 2), (0.5, 0.5), (3, 3), (1.5, 2.5)):
        got = resample(phase, factor, least_valid=0.05)
        assert (np.abs(got.phase) > 3.09).all()
        assert (got.resultant > 0.998).all()


def test_resampled_phase_follows_a_wrapped_ramp():
    """A ramp averaged to a third and to 2.7 has the ramp's own phase at the new centres, across many wraps."""
    row, col = np.mgrid[:60, :60]
    ramp = 0.2 * row + 0.1 * col
    for factor in (3, 2.7):
        got = resample(wrap(ramp.astype(np.float32)), (factor, factor))
        inner = np.arange(got.phase.shape[0] - 1)
        centre = (inner + 0.5) * factor - 0.5
        truth = 0.2 * centre[:, None] + 0.1 * centre
        assert apart(got.phase[:-1, :-1], truth).max() < (1e-5 if factor == 3 else 0.02)


def test_finer_and_back_gives_the_same_phase():
    """Doubling the resolution and averaging again returns smooth phase."""
    phase = fringes(40)
    finer = resample(phase, (0.5, 0.5)).phase
    assert finer.shape == (80, 80)
    assert np.percentile(apart(resample(finer, (2, 2)).phase, phase), 99) < 0.03


def test_missing_pixels_weigh_nothing():
    """NaN is left out of an average; where too little is measured the result is NaN, also outside the old grid."""
    phase = np.full((6, 6), 1.0, np.float32)
    phase[:3, :2], phase[3:, :1] = np.nan, np.nan
    got = resample(phase, (3, 3), shape=(3, 2)).phase
    np.testing.assert_allclose(got[1], 1.0, rtol=1e-6)
    assert np.isnan(got[0, 0])
    assert np.isnan(got[2]).all()
    np.testing.assert_array_equal(resample(phase, (1, 1)).phase, phase)


def test_noise_shortens_the_resultant():
    """Averaged noise has a short mean vector, averaged signal a long one."""
    noise = np.random.default_rng(0).uniform(-3, 3, (60, 60)).astype(np.float32)
    assert resample(noise, (6, 6)).resultant.mean() < 0.3
    assert resample(fringes(60, 0.02), (6, 6)).resultant.mean() > 0.8


def test_directions_that_cancel_have_no_mean():
    """Three directions a third of a turn apart agree on nothing: NaN, not the direction of a rounding error."""
    thirds = wrap(np.array([[0, 2 * math.pi / 3, 4 * math.pi / 3]]))
    got = resample(thirds, (1, 3))
    assert np.isnan(got.phase[0, 0])
    assert np.isnan(got.resultant[0, 0])


def test_grey_is_linear_phase():
    """Grey comes back within half a level, 0.0124 rad."""
    phase = fringes()
    grey = np.rint((phase + math.pi) / (2 * math.pi) * 255).astype(np.uint8)
    assert apart(from_grey(grey), phase).max() < math.pi / 255 + 1e-5
    assert np.isfinite(from_grey(grey)).all()


def test_grey_fill_is_missing_but_phase_of_that_grey_is_not():
    """A sea of 128 among fringes is NaN; 128 as a step of a slow ramp stays."""
    phase = fringes()
    grey = np.rint((phase + math.pi) / (2 * math.pi) * 255).astype(np.uint8)
    grey[100:150, 100:150] = 128
    assert np.isnan(from_grey(grey)[101:149, 101:149]).all()
    ramp = np.tile(np.repeat(np.arange(100, 150, dtype=np.uint8), 4), (50, 1))
    assert np.isfinite(from_grey(ramp)).all()


def test_palette_is_inverted_at_24_bits():
    """Every one of 252 colours comes back within its step of 0.025 rad."""
    phase = fringes()
    picture = from_colours(painted(phase))
    assert picture.rendering == "palette_24bit"
    assert picture.residual_levels < 0.5
    assert apart(picture.phase, phase).max() < 0.026
    assert np.isfinite(picture.phase).all()


def test_palette_is_inverted_at_four_bits():
    """Four bits are good to 0.05 rad RMS."""
    phase = fringes()
    picture = from_colours(cut_to(painted(phase).astype(np.int64), 4).astype(np.uint8))
    assert picture.rendering == "palette_4bit"
    assert rms(apart(picture.phase, phase)) < 0.05


def test_previews_are_inverted_through_their_chain():
    """Shrunk to 30 % and cut to three bits, smooth fringes come back within 0.12 rad RMS at over 95 % of pixels."""
    phase = fringes(800, 0.05)
    picture = from_colours(shrunk(painted(phase)))
    truth = resample(phase, (10 / 3, 10 / 3), shape=(240, 240)).phase
    assert picture.rendering == "palette_3bit"
    assert picture.coherent > 0.95
    assert picture.unexplained < 0.001
    assert rms(apart(picture.phase, truth)) < 0.12


def test_noise_in_a_preview_has_no_phase():
    """Shrunk noise is mostly NaN, while a guess is given beside it."""
    noise = np.random.default_rng(0).uniform(-math.pi, math.pi, (800, 800)).astype(np.float32)
    noise[:200] = fringes(800, 0.05)[:200]
    picture = from_colours(shrunk(painted(noise)))
    assert np.isnan(picture.phase[70:]).mean() > 0.8
    assert np.isnan(picture.phase[:55]).mean() < 0.06
    assert np.isfinite(picture.noisy_phase).all()


def test_white_paper_is_missing_but_the_palettes_white_is_not():
    """A white border is NaN; the white band at -0.5 rad inside fringes is phase."""
    rgb = shrunk(painted(fringes(800, 0.02)))
    assert (rgb.min(axis=2) == 255).mean() > 0.01
    before = from_colours(rgb).phase
    assert np.isfinite(before).mean() > 0.95
    rgb[:, :60] = 255
    after = from_colours(rgb).phase
    assert np.isnan(after[:, :55]).all()
    assert np.isfinite(after[:, 70:]).mean() > 0.95


@pytest.mark.parametrize("brightness", [51, 102, 170, 238])
def test_hues_are_inverted_at_any_brightness(brightness):
    """Sixteen hues are good to half a hue, 0.2 rad, whatever the amplitude; zero is the first hue."""
    phase = fringes()
    picture = from_colours(hued(phase, brightness))
    assert picture.rendering == "hue"
    assert picture.coherent > 0.98
    assert apart(picture.phase, phase).max() < math.pi / 16 + 0.06


def test_hues_of_no_saturation_have_no_phase():
    """Grey among hues is noise; black is nothing at all."""
    rgb = hued(fringes())
    rgb[:50], rgb[50:60] = 120, 0
    picture = from_colours(rgb)
    assert np.isnan(picture.phase[:60]).all()
    assert np.isfinite(picture.phase[60:]).mean() > 0.98
    assert np.isnan(picture.noisy_phase[50:60]).all()


def photograph(kind):
    """Return a picture that is no interferogram."""
    random = np.random.default_rng(0)
    row, col = np.mgrid[:128, :128]
    rgb = {
        "colours": random.integers(0, 256, (128, 128, 3)),
        "landscape": np.stack([90 + row // 3, 110 + col // 4, 60 + (row + col) // 8], axis=2),
        "three bits": cut_to(random.integers(0, 256, (128, 128, 3)), 3),
        "green": np.stack([row // 4, 100 + col, row // 4], axis=2),
        "black and white": np.repeat((row + col)[..., None] % 2 * 255, 3, axis=2),
    }[kind]
    return Image.fromarray(rgb.astype(np.uint8))


@pytest.mark.parametrize("kind", ["colours", "landscape", "three bits", "green", "black and white"])
def test_pictures_that_are_no_interferogram_are_refused(tmp_path, kind):
    """Photographs, random colours and diagrams raise, and the error says what share does not fit."""
    photograph(kind).save(tmp_path / "photo.png")
    with pytest.raises(WrongUnitsError, match=r"photo\.png"):
        read_picture(tmp_path / "photo.png")


@pytest.mark.parametrize("mode", ["RGBA", "P", "RGB"])
def test_modes_and_odd_sizes_are_read_alike(tmp_path, mode):
    """RGBA, palette and RGB files of one preview give the same phase, at their own size; transparent is missing."""
    rgb = shrunk(painted(fringes(400, 0.05)))[:97, :113]
    alpha = np.full(rgb.shape[:2], 255, np.uint8)
    image = Image.fromarray(rgb)
    if mode == "RGBA":
        alpha[:20] = 0
        image = Image.fromarray(np.dstack([rgb, alpha]))
    image = image.quantize(256) if mode == "P" else image
    image.save(tmp_path / "odd.png")
    picture = read_picture(tmp_path / "odd.png")
    assert picture.phase.shape == (97, 113)
    known = alpha > 0
    np.testing.assert_allclose(picture.phase[known], from_colours(rgb).phase[known], atol=1e-6)
    assert np.isnan(picture.phase[~known]).all()


@pytest.mark.parametrize("colour", ["white", "black"])
def test_blank_pictures_are_all_missing(tmp_path, colour):
    """An empty sheet is no error: it shows nothing."""
    Image.new("RGB", (20, 20), colour).save(tmp_path / "blank.png")
    picture = read_picture(tmp_path / "blank.png")
    assert picture.rendering == "blank"
    assert np.isnan(picture.phase).all()


def test_damaged_files_are_named(tmp_path):
    """Missing, foreign, deep and truncated files raise their own errors."""
    with pytest.raises(UsageError, match="no file"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(NotARasterError):
        read_picture(tmp_path / "text.png")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(NotARasterError, match="mode"):
        read_picture(tmp_path / "deep.png")
    Image.fromarray(painted(fringes())).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(TruncatedError):
        read_picture(tmp_path / "cut.png")


def test_palette_is_the_one_of_licsar():
    """The derived colours are within 2.5 levels of bins of the palette file as published."""
    _, colours = palette_colours()
    published = {0: (49, 55, 150), 30: (76, 125, 184), 126: (250, 248, 191), 185: (249, 150, 86), 251: (166, 1, 38)}
    assert len(colours) == 252
    for step, colour in published.items():
        assert np.abs(colours[step] - colour).max() < 2.5


def test_codes_of_the_palette_keep_their_published_order():
    """Codes of three bits have the phase of their interval in the palette; codes of no blend are known as such."""
    codes = {"496db6": -2.525, "92b6db": -1.675, "dbffff": -0.7875, "ffffb6": 0.2, "ffb66d": 1.16, "db2424": 2.525}
    simulated = chain()
    for text, phase in codes.items():
        code = sum((int(text[place : place + 2], 16) >> 5) * 8 ** (2 - place // 2) for place in (0, 2, 4))
        assert simulated.resultant[code] > 0.9
        assert abs(simulated.phase[code] - phase) < 0.12
    assert not simulated.possible[[0o070, 0o707, 0o007]].any()


@pytest.mark.data
def test_real_previews_are_understood(data):
    """Of real pictures of every rendering, nothing is unexplained beyond 0.2 % and the residual is below 10 levels."""
    folder = data / "deepcube/C1"
    pictures = [*sorted((folder / "0").glob("*.png"))[::24], *sorted((folder / "1").glob("*.png"))[::70]]
    seen = set()
    for path in pictures:
        picture = read_picture(path)
        seen.add(picture.rendering)
        assert picture.unexplained < 0.002
        assert picture.residual_levels < 10
    assert seen == {"palette_3bit", "hue"}
