"""One module per hazard; each has the same names: inputs, units, chip, classes and the decision rule."""
