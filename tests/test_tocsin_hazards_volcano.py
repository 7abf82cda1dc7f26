"""Classes, inputs and decision of volcanic deformation."""

import numpy as np
import pytest
from pydantic import ValidationError

from tocsin.hazards import flood, volcano
from tocsin.hazards.volcano import CLASSES, SOURCES, VolcanoInputs, decide
from tocsin.simulate import SOURCES as SIMULATED


def test_codes_are_those_of_the_contract():
    """0 is stable, 1 deforming, 254 not observable and 255 no data, each with a name and a colour of its own."""
    assert {code: facts.name for code, facts in CLASSES.items()} == {
        0: "stable",
        1: "deforming",
        254: "not_observable",
        255: "no_data",
    }
    assert len({facts.colour for facts in CLASSES.values()}) == len(CLASSES)
    assert (volcano.NOT_OBSERVABLE, volcano.NO_DATA) == (flood.NOT_OBSERVABLE, flood.NO_DATA)


def test_decision_never_calls_the_unseen_stable():
    """From the threshold on a pixel deforms; what was not seen stays no data, whatever its coherence."""
    stored = np.array([[0, 4999, 5000, 10000, 65535, 65535]], np.uint16)
    blocked = np.array([[False, False, False, True, True, False]])
    assert decide(stored, 0.5, blocked).tolist() == [[0, 0, 1, 254, 255, 255]]


def test_kinds_of_source_are_those_of_the_simulator():
    """A model's kinds of source are what it learnt from."""
    assert SOURCES == SIMULATED


@pytest.mark.parametrize(
    "wrong", [{"phase": "detrended"}, {"units": "mm"}, {"min_coherence": 1.5}, {"interferogram": ""}, {"dem": "x"}]
)
def test_inputs_are_bounded(wrong):
    """What no interferogram is gets refused by the model of the inputs."""
    with pytest.raises(ValidationError):
        VolcanoInputs(**{"interferogram": "ifg.tif", **wrong})


def test_inputs_take_paths(tmp_path):
    """A path is as good as its text."""
    assert VolcanoInputs(interferogram=tmp_path).interferogram == str(tmp_path)
