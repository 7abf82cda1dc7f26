"""Hephaestus: annotated LiCSAR previews in their published layout (Bountos et al. 2022, CVPR workshops).

``annotations/ID.json`` beside ``Hephaestus_Raw/FRAME/interferograms/DAY_DAY/DAY_DAY.geo.diff.png`` (or ``InSAR.png``).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tocsin.errors import UsageError
from tocsin.interferograms import FrameId, Taken
from tocsin.phase_pictures import read_picture
from training.datasets.interferogram import LabelledPhase

Activity = Literal["Mogi", "Dyke", "Sill", "Spheroid", "Earthquake", "Unidentified"]
MASK_VALUE: Final[dict[Activity, int]] = {
    "Mogi": 1,
    "Dyke": 2,
    "Sill": 3,
    "Spheroid": 4,
    "Earthquake": 5,
    "Unidentified": 6,
}
NO_DEFORMATION: Final = "Non_Deformation"
PICTURES: Final = ("{pair}.geo.diff.png", "InSAR.png")


def _day(value: object) -> object:
    """Return YYYYMMDD, as text or number, as a day; anything else as it is, for pydantic to judge."""
    text = str(value)
    return datetime.strptime(text, "%Y%m%d").date() if text.isdigit() and len(text) == 8 else value  # noqa: DTZ007


def _listed(value: object) -> object:
    """Return a bare text as a list of one: upstream's own reader meets both."""
    return [value] if isinstance(value, str) else value


def _polygons(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape, judged by pydantic afterwards
    """Return one flat polygon as a list of one: upstream writes both."""
    return [value] if isinstance(value, list) and value and not isinstance(value[0], list) else value


Day = Annotated[date, BeforeValidator(_day)]
Flag = Annotated[int, Field(ge=0, le=1)]
Ring = Annotated[tuple[float, ...], Field(min_length=6)]


class Annotation(BaseModel):
    """One annotation file, field for field.

    Attributes
    ----------
    segmentation_mask
        Polygons x, y, x, y, ... in pixels of the picture (column, row), one per entry of `activity_type`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    unique_id: int = Field(alias="uniqueID", description="number of the annotation")
    frame: FrameId = Field(alias="frameID", min_length=1, description="LiCSAR frame")
    primary_date: Day = Field(description="day of the earlier acquisition")
    secondary_date: Day = Field(description="day of the later acquisition")
    corrupted: Flag = Field(description="1 when the picture is damaged")
    processing_error: Flag = Field(description="1 when the processing failed visibly")
    glacier_fringes: Flag = Field(description="1 with fringes of moving ice")
    orbital_fringes: Flag = Field(description="1 with fringes of wrong orbits")
    atmospheric_fringes: int = Field(ge=0, le=3, description="strength of the atmosphere, 0 none to 3")
    low_coherence: Flag = Field(description="1 when most is noise")
    no_info: Flag = Field(description="1 when nothing can be judged")
    image_artifacts: Flag = Field(description="1 with marks that are no interferogram")
    label: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(description="Non_Deformation, Deformation, ...")
    activity_type: tuple[Activity, ...] = Field(description="source of each polygon")
    intensity_level: tuple[Literal["None", "Low", "Medium", "High"], ...] = Field(description="of each polygon")
    phase: Literal["Rest", "Unrest", "Rebound", "None"] = Field(description="state of the volcano")
    confidence: float = Field(ge=0, le=1, description="how sure the annotator was")
    segmentation_mask: Annotated[tuple[Ring, ...], BeforeValidator(_polygons)] = Field(description="polygons, px")
    is_crowd: int = Field(ge=0, description="above 0 with several patterns")
    caption: str = Field(description="what the annotator wrote")

    @model_validator(mode="after")
    def _one_activity_each(self) -> "Annotation":
        if len(self.segmentation_mask) != len(self.activity_type):
            msg = f"{len(self.segmentation_mask)} polygons, {len(self.activity_type)} activity types"
            raise ValueError(msg)
        if any(len(ring) % 2 for ring in self.segmentation_mask):
            msg = "a polygon ends with half a point"
            raise ValueError(msg)
        return self

    @property
    def pair(self) -> str:
        """Both days as in folder names, YYYYMMDD_YYYYMMDD."""
        return f"{self.primary_date:%Y%m%d}_{self.secondary_date:%Y%m%d}"

    @property
    def deforming(self) -> bool:
        """Whether any deformation was seen, of a volcano or of an earthquake."""
        return NO_DEFORMATION not in self.label

    @property
    def usable(self) -> bool:
        """Whether the picture shows an interferogram that can be judged."""
        return not (self.corrupted or self.processing_error or self.no_info)

    def mask(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the polygons burnt onto a picture.

        Parameters
        ----------
        shape
            Rows and columns of the picture.

        Returns
        -------
        ndarray
            uint8 [row, col]: 0 none, else `MASK_VALUE` of the source; border pixels belong to a polygon, coordinates
            are cut to whole pixels as upstream does, and where polygons overlap the later one counts.
        """
        from PIL import Image, ImageDraw

        canvas = Image.new("L", (shape[1], shape[0]))
        draw = ImageDraw.Draw(canvas)
        for ring, activity in zip(self.segmentation_mask, self.activity_type, strict=True):
            points = [(int(x), int(y)) for x, y in list(pairwise(ring))[::2]]
            draw.polygon(points, fill=MASK_VALUE[activity], outline=MASK_VALUE[activity])
        return np.asarray(canvas).copy()


def read_annotation(path: str | Path) -> Annotation:
    """Read one annotation file.

    Raises
    ------
    UsageError
        When it is no JSON, or not in the published form; the fields at fault are named.
    """
    try:
        return Annotation.model_validate(json.loads(Path(path).read_text()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        given = f"{path} ({error})"
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
        given = f"{path} ({faults})"
    raise UsageError(
        given=given,
        expected="an annotation in the form of Hephaestus",
        todo="pass a file of annotations_hephaestus.zip as it was published",
    )


@dataclass(frozen=True)
class AnnotatedPhase:
    """One interferogram with its annotation.

    Attributes
    ----------
    chip
        Phase and label; label 1 with any deformation.
    annotation
        All that the annotator said.
    mask
        uint8 [row, col] as of `Annotation.mask`.
    """

    chip: LabelledPhase
    annotation: Annotation
    mask: NDArray[np.uint8]


class Hephaestus:
    """Annotations with their pictures.

    Parameters
    ----------
    annotations
        Folder of ``ID.json`` files.
    raw
        Folder of frames.

    Raises
    ------
    UsageError
        When there are no annotations.
    """

    def __init__(self, annotations: str | Path, raw: str | Path) -> None:
        self.annotations, self.raw = Path(annotations), Path(raw)
        if not any(self.annotations.glob("*.json")):
            raise UsageError(
                given=f"{self.annotations}, which holds no annotations",
                expected="a folder of ID.json files",
                todo="unpack annotations_hephaestus.zip and pass its folder",
            )

    def names(self) -> tuple[str, ...]:
        """Return the annotations by number, sorted."""
        return tuple(
            sorted((path.stem for path in self.annotations.glob("*.json")), key=lambda name: (len(name), name))
        )

    def read(self, name: str) -> AnnotatedPhase:
        """Read one interferogram at its own size.

        Raises
        ------
        UsageError
            When the annotation is not in the published form, or its picture is missing.
        """
        annotation = read_annotation(self.annotations / f"{name}.json")
        folder = self.raw / annotation.frame / "interferograms" / annotation.pair
        paths = [folder / picture.format(pair=annotation.pair) for picture in PICTURES]
        picture = read_picture(next((path for path in paths if path.is_file()), paths[0]))
        days = {"start": annotation.primary_date, "end": annotation.secondary_date}
        chip = LabelledPhase(
            name,
            Taken(frame=annotation.frame, **days),
            picture,
            int(annotation.deforming),
        )
        return AnnotatedPhase(chip, annotation, annotation.mask((picture.phase.shape[0], picture.phase.shape[1])))

    def chips(self) -> Iterator[AnnotatedPhase]:
        """Read all interferograms that can be judged, in the order of their numbers."""
        for name in self.names():
            if read_annotation(self.annotations / f"{name}.json").usable:
                yield self.read(name)
