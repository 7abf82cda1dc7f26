"""Acquisition times: from tags and known names, never invented."""

from datetime import UTC, datetime

import pytest

from tocsin.raster import acquired
from tocsin.raster.acquired import parse_time

NAMES = {
    "OPERA_L2_RTC-S1_T137-292319-IW2_20211119T015858Z_20250830T120333Z_S1A_30_v1.0_VH.tif": "20211119T015858",
    "S1A_IW_20230605T120004_DVP_RTC30_G_gpuned_1A2B_VV.tif": "20230605T120004",
    "s1a-iw-grd-vv-20200101T060708-20200101T060733-030000-037000-001.tiff": "20200101T060708",
    "S1B_IW_GRDH_1SDV_20200101T060708_20200101T060733_030000_037000_ABCD.SAFE": "20200101T060708",
}


@pytest.mark.parametrize(("name", "stamp"), NAMES.items())
def test_known_names_give_the_start_of_the_pass(name, stamp):
    """OPERA, HyP3 and Sentinel-1 names hold the acquisition, not the processing time."""
    found = acquired(f"/somewhere/{name}", {})
    assert found.start == datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert "name" in found.source


def test_folder_name_counts_after_the_file_name():
    """A measurement inside a SAFE folder takes the folder's times."""
    found = acquired(
        "/x/S1B_IW_GRDH_1SDV_20200101T060708_20200101T060733_030000_037000_ABCD.SAFE/measurement/a.tiff", {}
    )
    assert (found.start.second, found.end.second) == (8, 33)


@pytest.mark.parametrize("name", ["scene.tif", "Spain_7370579_S1Hand.tif", "flood_20230605T120004.tif", "20230605.tif"])
def test_unknown_names_give_nothing(name):
    """A date in a name of an unknown producer may be anything: it is not taken."""
    assert acquired(f"/data/{name}", {"AREA_OR_POINT": "Area"}) is None


def test_acquisition_tags_win_over_names_and_names_over_the_tiff_tag():
    """TIFF's own date is often the writing of the file: it counts last, and is named as the source."""
    name = "/x/S1A_IW_20230605T120004_DVP_RTC30_G_gpuned_1A2B_VV.tif"
    tags = {"TIFFTAG_DATETIME": "2024:01:02 03:04:05"}
    assert acquired(name, tags).source == "HyP3 name"
    assert acquired("a.tif", tags).start == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert acquired("a.tif", tags).source == "tifftag_datetime"
    tags["ACQUISITION_START"] = "2022-02-03T04:05:06+02:00"
    tags["ACQUISITION_END"] = "2022-02-03T02:05:31Z"
    found = acquired(name, tags)
    assert (found.start.hour, found.end.second, found.source) == (2, 31, "acquisition_start")


def test_a_date_alone_means_the_day():
    """A tag without a time of day gives the whole day as the range."""
    found = acquired("a.tif", {"ACQUISITION_DATE": "2022-02-03"})
    assert (found.start, found.end) == (
        datetime(2022, 2, 3, tzinfo=UTC),
        datetime(2022, 2, 3, 23, 59, 59, tzinfo=UTC),
    )


def test_an_end_before_the_start_is_dropped():
    """Times that contradict each other do not make a negative range."""
    tags = {"ACQUISITION_START": "2022-02-03T04:05:06Z", "ACQUISITION_END": "2022-02-03T04:05:05Z"}
    assert acquired("a.tif", tags).end is None


@pytest.mark.parametrize(
    "text", ["2017-10-30T05:32:30.000000000", "20171030T053230", "2017:10:30 05:32:30", "2017-10-30 05:32:30Z"]
)
def test_times_are_read_as_utc(text):
    """All notations in use give the same moment."""
    assert parse_time(text) == datetime(2017, 10, 30, 5, 32, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2017:13:30 05:32:30", "bands"])
def test_what_is_no_time_is_nothing(text):
    """Free text is not guessed at."""
    assert parse_time(text) is None
