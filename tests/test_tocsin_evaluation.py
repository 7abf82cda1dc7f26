"""Figures of accuracy on maps whose answer is known by counting."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tocsin.errors import UsageError
from tocsin.evaluation import (
    add_counts,
    count_water,
    find_chips,
    otsu_threshold,
    report_chip,
    report_flood,
    write_predictions,
)

WATER = np.array([[1, 1, 0, 0]], dtype=bool)
ALL = np.ones((1, 4), dtype=bool)


def counts(label: list[int], valid: np.ndarray = ALL, water: np.ndarray = WATER):
    """Count a map of four pixels."""
    return count_water(water, np.array([label], dtype=np.int16), valid)


def test_iou_counts_pixels():
    """One pixel right, one missed and one too many are an IoU of a third."""
    found = counts([1, 0, 1, 0])
    assert (found.both, found.either, found.labelled, found.judged) == (1, 3, 2, 4)
    assert found.iou == pytest.approx(1 / 3)


def test_unlabelled_pixels_are_left_out():
    """A pixel labelled -1 counts nowhere."""
    found = counts([1, -1, -1, 0])
    assert (found.both, found.either, found.judged) == (1, 1, 2)


def test_pixels_without_data_are_left_out():
    """A pixel without data counts nowhere, whatever its label."""
    found = counts([1, 1, 1, 1], valid=np.array([[True, False, False, True]]))
    assert (found.both, found.either, found.labelled, found.judged) == (1, 2, 2, 2)


def test_no_water_at_all_has_no_iou():
    """Nothing found where nothing is has no IoU, not 1 and not 0."""
    assert counts([0, 0, 0, 0], water=~ALL).iou is None


def test_pooled_adds_before_dividing():
    """Pooled IoU is the ratio of sums, not the mean of ratios."""
    big, small = counts([1, 1, 0, 0]), counts([0, 1, 1, 1])
    assert add_counts([big, small]).iou == pytest.approx((2 + 1) / (2 + 4))
    report = report_flood([report_chip("a", big, small, 0.5), report_chip("b", small, big, 0.5)])
    assert report.pooled_iou == pytest.approx(0.5)
    assert report.mean_chip_iou == pytest.approx((1 + 1 / 4) / 2)
    assert report.otsu_mean_chip_iou == pytest.approx((1 + 1 / 4) / 2)


def test_chips_without_water_are_apart():
    """A dry chip has no IoU; its false water is a share of its own and stays in the pooled union."""
    wet, dry = counts([1, 1, 0, 0]), counts([0, 0, 0, 0])
    report = report_flood([report_chip("wet", wet, wet, 0.5), report_chip("dry", dry, dry, 0.5)])
    assert report.chips[1].iou is None
    assert report.mean_chip_iou == 1
    assert report.dry_chips == 1
    assert report.dry_false_water == pytest.approx(0.5)
    assert report.pooled_iou == pytest.approx(0.5)


def test_no_chip_at_all_gives_no_figure():
    """Without chips every figure is None."""
    report = report_flood([])
    assert (report.pooled_iou, report.mean_chip_iou, report.dry_false_water) == (None, None, None)


def test_otsu_splits_two_groups():
    """Between two clouds of values the threshold lies in the gap; NaN does not matter."""
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(-25, 1, 500), random.normal(-15, 1, 2000), [np.nan] * 50]).astype(np.float32)
    assert -23 < otsu_threshold(values) < -17


def test_otsu_of_nothing_is_nan():
    """Without a finite value there is no threshold, and nothing is below it."""
    assert np.isnan(otsu_threshold(np.full((2, 2), np.nan, dtype=np.float32)))


def make_chip(folder: Path, name: str, *, label: bool = True) -> None:
    """Make empty files in the layout of Sen1Floods11."""
    for part, suffix in (("S1Hand", "_S1Hand.tif"), ("LabelHand", "_LabelHand.tif"))[: 2 if label else 1]:
        path = folder / part / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_chips_are_found_at_any_depth(tmp_path: Path):
    """Ids are paths relative to the folder that was named, sorted."""
    make_chip(tmp_path / "v1.1/data", "Ghana_2")
    make_chip(tmp_path / "v1.1/data", "Ghana_1")
    found = find_chips(tmp_path)
    assert [chip.id for chip in found] == [f"v1.1/data/S1Hand/Ghana_{k}_S1Hand.tif" for k in (1, 2)]
    assert found[0].label.name == "Ghana_1_LabelHand.tif"


def test_folder_without_chips_is_refused(tmp_path: Path):
    """A folder that holds no chip is an error that says what was expected."""
    with pytest.raises(UsageError, match="S1Hand"):
        find_chips(tmp_path)


def test_chip_without_label_is_refused(tmp_path: Path):
    """A scene without its label is an error, never left out silently."""
    make_chip(tmp_path, "Ghana_1", label=False)
    with pytest.raises(UsageError, match="Ghana_1_LabelHand"):
        find_chips(tmp_path)


def test_predictions_hold_the_predicted_class(tmp_path: Path):
    """Each row is id, predicted class and predicted share of water, never the truth."""
    dry_label, wet_label = counts([0, 0, 0, 0]), counts([1, 1, 1, 1])
    report = report_flood([report_chip("a", dry_label, dry_label, 0.5), report_chip("b", wet_label, wet_label, 0.0)])
    write_predictions(tmp_path / "p.csv", report)
    with (tmp_path / "p.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"id": "a", "label": "1", "score": "0.500000"}, {"id": "b", "label": "0", "score": "0.000000"}]


def test_report_names_what_the_model_learnt_from():
    """A reader of good figures has to be able to see whether the chips were training chips."""
    assert report_flood([], ("Some floods",)).learnt_from == ("Some floods",)
