"""A service of tocsin from Python: `Client`, and `AsyncClient` for programs that run an event loop.

>>> with tocsin.Client("https://tocsin.example.org", token="...") as client:  # doctest: +SKIP
...     result = client.score("flood", post="scene.tif", out="products/")

The result is that of `tocsin.score`, products as paths in `out`; errors of the service are raised as the errors of the
same code. The token is taken from TOCSIN_TOKEN where none is given, and goes to this service only: no link or redirect
is followed elsewhere.
"""

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from tocsin.client_flows import Flows
from tocsin.client_http import answer_of, lost, saving, sent, settings
from tocsin.client_wire import Answer, Call, Flow, Lost, OnProgress, Pause, Progress, RemoteJob
from tocsin.model_card import ModelCard
from tocsin.result import Result

__all__ = ["AsyncClient", "Client", "Progress", "RemoteJob"]

ReturnT = TypeVar("ReturnT")


class Client:
    """A service, one call after the other.

    Parameters
    ----------
    service
        Its address, as https://HOST[:PORT][/PREFIX].
    token
        As `tocsin token new` made it; None: TOCSIN_TOKEN, or none.
    patience_s
        How long a call is repeated, in all, while the service is away or says that it is busy.
    transport
        What carries requests; None: the network.

    Raises
    ------
    UsageError
        The address is none, or the token cannot stand in a header.
    """

    def __init__(
        self,
        service: str,
        token: str | None = None,
        *,
        patience_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._flows = Flows(patience_s)
        self._http = httpx.Client(**settings(service, token), transport=transport)

    def score(
        self,
        hazard: str,
        *,
        out: str | Path,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        **named: Any,  # noqa: ANN401 - fields of the hazard's inputs and options, which the service checks
    ) -> Result:
        """Score one scene by the service, and fetch its products.

        Parameters
        ----------
        hazard, out, overwrite
            As of `tocsin.score`.
        on_progress
            Told how far it is; what it raises ends the scoring, and no product is left.
        **named
            Inputs of the hazard and `overlap`, `threshold`, `datetime`, `gpkg`, `aoi`; what runs is the operator's
            choice. Files are sent; where every one is a reference (https://, s3://), the service fetches them.

        Raises
        ------
        TocsinError
            As `tocsin.score`, and as the service says.
        """
        return self._run(self._flows.score(hazard, Path(out), named, on_progress, overwrite=overwrite))

    def submit(self, hazard: str, *, on_progress: OnProgress | None = None, **named: Any) -> RemoteJob:  # noqa: ANN401 - as above
        """Send a scene and return its job at once; `webhook` among the names is told when it has ended."""
        return self._run(self._flows.submit(hazard, named, on_progress))

    def plan(self, hazard: str, **named: Any) -> Result:  # noqa: ANN401 - as above
        """Return what scoring a scene would cost; its summary is a plan."""
        return self._run(self._flows.plan(hazard, named))

    def job(self, job_id: str) -> RemoteJob:
        """Return a job as it is now."""
        return self._run(self._flows.job(job_id))

    def jobs(self) -> tuple[RemoteJob, ...]:
        """Return the jobs of this token, the newest first."""
        return self._run(self._flows.jobs())

    def wait(self, job_id: str, timeout_s: float | None = None, on_progress: OnProgress | None = None) -> RemoteJob:
        """Return a job once it is over, however it ended; `RemoteJob.outcome` has its result or its error."""
        return self._run(self._flows.wait(job_id, timeout_s, on_progress))

    def cancel(self, job_id: str) -> RemoteJob:
        """Cancel a job; one that has ended stays as it is."""
        return self._run(self._flows.cancel(job_id))

    def download(
        self, job_id: str, out: str | Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
    ) -> Result:
        """Fetch the products of a job that is done, whole or not at all; a lost download goes on where it ended."""
        return self._run(self._flows.download(job_id, Path(out), on_progress, overwrite=overwrite))

    def models(self) -> tuple[ModelCard, ...]:
        """Return the models that the service can run."""
        return self._run(self._flows.models())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _run(self, flow: Flow[ReturnT]) -> ReturnT:
        """Carry a conversation out."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = self._do(step)
                except (Lost, OSError, KeyboardInterrupt) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as done:
            value: ReturnT = done.value
            return value
        finally:
            flow.close()

    def _do(self, step: Call | Pause) -> Answer:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return Answer()
        etag = None
        with ExitStack() as stack:
            request = self._http.build_request(step.method, step.path, **sent(step, stack))
            try:
                response = self._http.send(request, stream=True)
                stack.callback(response.close)
                etag = response.headers.get("etag")
                if step.save is None or response.status_code not in {200, 206}:
                    return answer_of(response, response.read())
                with saving(step, response) as file:
                    for block in response.iter_bytes():
                        file.write(block)
            except httpx.RequestError as error:
                raise lost(error, etag) from error
        return answer_of(response, b"")


class AsyncClient:
    """A service, for programs that run an event loop; every method is as of `Client`.

    Parameters
    ----------
    service, token, patience_s, transport
        As of `Client`.
    """

    def __init__(
        self,
        service: str,
        token: str | None = None,
        *,
        patience_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._flows = Flows(patience_s)
        self._http = httpx.AsyncClient(**settings(service, token), transport=transport)

    async def score(
        self,
        hazard: str,
        *,
        out: str | Path,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        **named: Any,  # noqa: ANN401 - fields of the hazard's inputs and options, which the service checks
    ) -> Result:
        """Score one scene by the service, and fetch its products."""
        return await self._run(self._flows.score(hazard, Path(out), named, on_progress, overwrite=overwrite))

    async def submit(self, hazard: str, *, on_progress: OnProgress | None = None, **named: Any) -> RemoteJob:  # noqa: ANN401 - as above
        """Send a scene and return its job at once."""
        return await self._run(self._flows.submit(hazard, named, on_progress))

    async def plan(self, hazard: str, **named: Any) -> Result:  # noqa: ANN401 - as above
        """Return what scoring a scene would cost."""
        return await self._run(self._flows.plan(hazard, named))

    async def job(self, job_id: str) -> RemoteJob:
        """Return a job as it is now."""
        return await self._run(self._flows.job(job_id))

    async def jobs(self) -> tuple[RemoteJob, ...]:
        """Return the jobs of this token, the newest first."""
        return await self._run(self._flows.jobs())

    async def wait(
        self, job_id: str, timeout_s: float | None = None, on_progress: OnProgress | None = None
    ) -> RemoteJob:
        """Return a job once it is over, however it ended."""
        return await self._run(self._flows.wait(job_id, timeout_s, on_progress))

    async def cancel(self, job_id: str) -> RemoteJob:
        """Cancel a job; one that has ended stays as it is."""
        return await self._run(self._flows.cancel(job_id))

    async def download(
        self, job_id: str, out: str | Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
    ) -> Result:
        """Fetch the products of a job that is done."""
        return await self._run(self._flows.download(job_id, Path(out), on_progress, overwrite=overwrite))

    async def models(self) -> tuple[ModelCard, ...]:
        """Return the models that the service can run."""
        return await self._run(self._flows.models())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def _run(self, flow: Flow[ReturnT]) -> ReturnT:
        """Carry a conversation out."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._do(step)
                except (Lost, OSError, asyncio.CancelledError) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as done:
            value: ReturnT = done.value
            return value
        finally:
            flow.close()

    async def _do(self, step: Call | Pause) -> Answer:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return Answer()
        etag = None
        with ExitStack() as stack:
            request = self._http.build_request(step.method, step.path, **sent(step, stack))
            try:
                response = await self._http.send(request, stream=True)
                try:
                    etag = response.headers.get("etag")
                    if step.save is None or response.status_code not in {200, 206}:
                        return answer_of(response, await response.aread())
                    with saving(step, response) as file:
                        async for block in response.aiter_bytes():
                            file.write(block)
                finally:
                    await response.aclose()
            except httpx.RequestError as error:
                raise lost(error, etag) from error
        return answer_of(response, b"")
