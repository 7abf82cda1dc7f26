"""How the figures of a graph are shown: one row per case and output, the limits below."""

from tocsin.cli.output import table
from tocsin.manifest import Parity


def parity_table(figures: Parity) -> str:
    """Return the figures of every case as text, with the limits below."""
    sets = figures.limit_change is not None
    head = ("case", "output", "shape", "valid", "difference", "flipped", "NaN")
    rows = [
        (
            row.case,
            row.output,
            " x ".join(map(str, row.shape)),
            str(row.valid_pixels),
            f"{row.max_difference:.2g}",
            str(row.flipped_pixels),
            "same" if row.same_nan else "MOVED",
            *((f"{row.change:+.4f} {row.metric}" if row.change is not None else "-", row.worst or "-") if sets else ()),
        )
        for row in figures.rows
    ]
    return table((*head, "change", "worst") if sets else head, rows) + "\n" + limits_line(figures)


def limits_line(figures: Parity) -> str:
    """Return the largest figures beside their limits, in one line."""
    said = (
        f"largest difference {figures.max_difference:.2g} (limit {figures.limit_difference:.2g}), "
        f"flipped {figures.flipped_fraction:.4%} (limit {figures.limit_flipped:.4%})"
    )
    own = {row.output: row.limit_flipped for row in figures.rows if row.limit_flipped is not None}
    for output, limit in own.items():
        said += f", of {output} {figures.flipped_shares[output]:.3%} (limit {limit:.3%})"
    if figures.limit_change is not None:
        said += f", figures changed by {figures.change:+.4f} (limit {figures.limit_change:g})"
    return f"{said}, against {figures.reference}"
