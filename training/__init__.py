"""Networks, data sets and tasks: torch lives here and in `export` only."""
