"""Scene in, products out: the one entry that the CLI, Python, the service and batch jobs share.

``score`` opens and checks all of it first, so that a refusal comes before any work; then reading, inference and writing
run at once; then all products appear together, or none.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ValidationError

from tocsin.errors import InterruptedScoringError, UsageError
from tocsin.repository import Model, load_model
from tocsin.result import Hazard, Result
from tocsin.runtimes import Runtime, RuntimeOptions, open_runtime
from tocsin.scoring_job import HazardJob, Order, ScoringOptions, expected_peak_bytes, plan_windows

if TYPE_CHECKING:
    from tocsin.manifest import Precision

__all__ = ["HAZARDS", "Scorer", "ScoringOptions", "expected_peak_bytes", "plan_windows", "score"]

HAZARDS = ("flood", "landslide", "volcano")


@dataclass(frozen=True, slots=True)
class _Known:
    """A hazard that can be scored: what it reads, and what opens a scene of it."""

    hazard: Hazard
    inputs: type[BaseModel]
    open_job: Callable[[ExitStack, Any, Order], HazardJob]

    @property
    def scene(self) -> str:
        """Name of the input that is the scene: the first one."""
        return next(iter(self.inputs.model_fields))


def _known(hazard: str) -> _Known:
    """Return what is known of a hazard; each is loaded on use."""
    if hazard == "flood":
        from tocsin.flood_scoring import open_flood_job
        from tocsin.hazards.flood import FloodInputs

        return _Known("flood", FloodInputs, open_flood_job)
    if hazard == "landslide":
        from tocsin.hazards.landslide import LandslideInputs
        from tocsin.landslide_scoring import open_landslide_job

        return _Known("landslide", LandslideInputs, open_landslide_job)
    if hazard == "volcano":
        from tocsin.hazards.volcano import VolcanoInputs
        from tocsin.volcano_scoring import open_volcano_job

        return _Known("volcano", VolcanoInputs, open_volcano_job)
    raise UsageError(f"hazard {hazard!r}", f"one of {', '.join(HAZARDS)}", "choose one of these")


class Scorer:
    """Scores scene after scene; each model and its runtime are opened once and kept. For one thread at a time.

    >>> with Scorer() as scorer:  # doctest: +SKIP
    ...     for scene in scenes:
    ...         scorer.score("flood", post=scene, out="products/")

    A runtime that failed is closed, so that the next scene opens it anew. A model that is exported again while a scorer
    lives is not seen by it.
    """

    def __init__(self) -> None:
        self._models: dict[tuple[str, Path | None, Precision], Model] = {}
        self._runtimes: dict[tuple[str, RuntimeOptions], Runtime] = {}

    def score(
        self,
        hazard: str,
        *,
        out: str | Path,
        options: ScoringOptions | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        **named: Any,  # noqa: ANN401 - fields of two models, which check them
    ) -> Result:
        """Score one scene, as `tocsin.score` does.

        Parameters
        ----------
        hazard, out, options, **named
            As of `tocsin.score`.
        on_progress
            Told windows done and windows in all after every window; what it raises ends the scoring, and no product
            is left.

        Raises
        ------
        TocsinError
            As `tocsin.score`.
        """
        started = datetime.now(UTC)
        known = _known(hazard)
        chosen, inputs = _arrange(known, options, named)
        try:
            with ExitStack() as stack:
                model = self._model(known.hazard, chosen)
                order = Order(known.hazard, model, chosen, Path(out), started, on_progress)
                job = known.open_job(stack, inputs, order)
                if chosen.dry_run:
                    return job.plan()
                job.prepare(stack)
                Path(out).mkdir(parents=True, exist_ok=True)
                return job.run(stack, stack.enter_context(self._runtime(model, chosen)))
        except KeyboardInterrupt:
            raise InterruptedScoringError(
                f"an interrupt while scoring {getattr(inputs, known.scene)}",
                "a run to the end",
                "run it again; no partial product was left",
            ) from None

    def _model(self, name: str, options: ScoringOptions) -> Model:
        """Return a model, checked when it is first asked for."""
        key = name, options.model_repository, options.precision
        if key not in self._models:
            self._models[key] = load_model(*key)
        return self._models[key]

    @contextmanager
    def _runtime(self, model: Model, options: ScoringOptions) -> Generator[Runtime]:
        """Lend the runtime of a model; one under which anything failed is not lent again."""
        how = RuntimeOptions(**{name: getattr(options, name) for name in RuntimeOptions.model_fields})
        key = model.sha256, how
        runtime = self._runtimes.get(key) or open_runtime(model, options)
        self._runtimes[key] = runtime
        try:
            yield runtime
        except BaseException:
            self._runtimes.pop(key).close()
            raise

    def close(self) -> None:
        """Close every runtime; what is scored afterwards opens its own again."""
        while self._runtimes:
            self._runtimes.popitem()[1].close()

    def __enter__(self) -> Self:
        """Return the scorer, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def score(hazard: str, *, out: str | Path, options: ScoringOptions | None = None, **named: Any) -> Result:  # noqa: ANN401 - fields of two models, which check them
    """Score one scene.

    Parameters
    ----------
    hazard
        ``flood``, ``landslide`` or ``volcano``.
    out
        Folder of the products; made when missing.
    options
        Passed whole; or its fields by name.
    **named
        Inputs of the hazard (flood: ``post``, ``pre``, ``reference_water``, ``dem``, ``exclude``, ``units``, ...;
        landslide: ``pre``, ``post`` (one to three names each), ``dem``, ``exclude``, ``units``, ...; volcano:
        ``interferogram``, ``coherence``, ``phase``, ``units``, ...) and fields of `ScoringOptions`.

    Returns
    -------
    Result
        What the command prints with ``--json``. With ``dry_run`` the summary is a `ScoringPlan` and nothing is written.

    Raises
    ------
    TocsinError
        Its children, each with the code of the contract; `InterruptedScoringError` after Ctrl-C.
    """
    with Scorer() as scorer:
        return scorer.score(hazard, out=out, options=options, **named)


def _arrange(
    known: _Known, options: ScoringOptions | None, named: Mapping[str, Any]
) -> tuple[ScoringOptions, BaseModel]:
    """Sort names into options and inputs; refuse what is neither."""
    option_names, input_names = set(ScoringOptions.model_fields), set(known.inputs.model_fields)
    unknown = sorted(set(named) - option_names - input_names)
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}",
            f"inputs {', '.join(sorted(input_names))} or options {', '.join(sorted(option_names))}",
            "use one of these names",
        )
    by_name = {name: value for name, value in named.items() if name in option_names}
    if options is not None and by_name:
        raise UsageError(f"options and also {', '.join(sorted(by_name))}", "one of both", "put them into the options")
    try:
        inputs = known.inputs(**{name: value for name, value in named.items() if name in input_names})
        return options or ScoringOptions(**by_name), inputs
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}={first['input']!r}", str(first["msg"]), f"check {where}") from error
