"""Where labels go on a map: beside what they name, within the map, not on each other."""

from tocsin.mapframe import MapSize

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, pixels of the map."""


def free_place(box: Box, wanted: tuple[float, float], size: MapSize, taken: list[Box]) -> Box:
    """Return where a label of a width and height goes: above, below, right or left of a box, where nothing is yet."""
    width, height = wanted
    left, top, right, bottom = box
    tried = [
        (left, top - height - 6),
        (left, bottom + 6),
        (right + 6, (top + bottom - height) / 2),
        (left - width - 6, (top + bottom - height) / 2),
        *((left, top - (height + 4) * step - 6) for step in range(2, 6)),
        *((left, bottom + (height + 4) * step) for step in range(1, 6)),
    ]
    places = []
    for x, y in tried:
        # Within the map, whatever the detection's place in it.
        x_in = min(max(x, 4), max(4, size.width - width - 4))
        y_in = min(max(y, 4), max(4, size.height - height - 4))
        places.append((x_in, y_in, x_in + width, y_in + height))
    free = (place for place in places if not any(overlap(place, other) for other in taken))
    return next(free, places[0])


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share ground."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
