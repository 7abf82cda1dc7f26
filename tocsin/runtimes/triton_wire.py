"""Speaks KServe v2 to a Triton server: the only module that knows tritonclient.

Two wires, one set of failures: `Away` where trying again may help, an error of ours where it cannot.
"""

import http.client
import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, Protocol

import numpy as np

from tocsin.errors import RuntimeUnavailableError, UsageError
from tocsin.runtimes import FloatArray
from tocsin.runtimes.triton_memory import SharedMemory

CONNECT_S: Final = 15.0
"""How long a server may take for what needs no graph."""
CERTIFICATES: Final = "TOCSIN_TRITON_CA"
"""Environment variable: file of the authorities that a grpcs:// server is checked against; the system's by default."""
ENDPOINT: Final = re.compile(r"^(grpcs?|http)://([^\s/:]+):(\d+)$")

_AWAY = {"UNAVAILABLE", "503", "CANCELLED", "DEADLINE_EXCEEDED", "502", "504"}
_REFUSED = {"INVALID_ARGUMENT", "400"}
_AWAY_WORDS = ("Stub process", "no available versions", "Unable to find shared memory region")
"""A backend that died, a model that is being loaded, a server that was started anew."""


class Away(Exception):  # noqa: N818 - no failure yet: trying again may help
    """The server cannot answer now. Never leaves the runtime.

    Parameters
    ----------
    message : str
        What it said, or what the connection said.
    queue_full : bool
        It is there, and has as much work as it takes.
    """

    def __init__(self, message: str, *, queue_full: bool = False) -> None:
        super().__init__(message)
        self.queue_full = queue_full


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Return the parts of grpc://HOST:PORT, grpcs://HOST:PORT or http://HOST:PORT."""
        match = ENDPOINT.match(url)
        assert match is not None, "RuntimeOptions checks the pattern"
        return cls(match[1], match[2], int(match[3]))

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine, as far as its name says."""
        return self.host == "localhost" or self.host.startswith("127.")

    def __str__(self) -> str:
        """As it was given."""
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True)
class Served:
    """What a server says of a model: the parameters of its `config.pbtxt`, and where it runs."""

    precision: str | None
    graph_sha256: str | None
    device: str


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes
    ----------
    inputs : mapping of str to numpy.ndarray
        float32 [batch, ...] by name, C order.
    outputs : mapping of str to tuple of int
        Shapes of what must come back, batch included.
    """

    inputs: Mapping[str, FloatArray]
    outputs: Mapping[str, tuple[int, ...]]


class Wire(Protocol):
    """One server over one protocol; `ask` may be called from several threads at a time."""

    def served(self, model: str) -> Served:
        """Return what the server says of a model."""

    def ask(self, model: str, question: Question, timeout_s: float, memory: SharedMemory | None) -> dict[str, Any]:
        """Return the answer, float32 arrays of the caller's own by output name."""

    def register(self, memory: SharedMemory) -> None:
        """Show the server a region of shared memory."""

    def unregister(self, memory: SharedMemory) -> None:
        """Take it back."""

    def close(self) -> None:
        """Close the connection."""


def open_wire(endpoint: Endpoint) -> Wire:
    """Return the wire of a scheme; nothing is sent yet.

    Raises
    ------
    RuntimeUnavailableError
        tritonclient is not installed.
    """
    return HttpWire(endpoint) if endpoint.scheme == "http" else GrpcWire(endpoint)


def failure(status: str, message: str, where: Endpoint) -> Exception:
    """Return the error that belongs to a server's answer.

    Parameters
    ----------
    status : str
        Name of the gRPC status, or the HTTP status.
    message : str
        What the server said.
    where : Endpoint
        The server.
    """
    status = status.removeprefix("StatusCode.")
    said = message.partition("\n")[0][:300]
    if "maximum queue size" in message:
        return Away(said, queue_full=True)
    if "restricted" in message:
        return RuntimeUnavailableError(f"{where} ({said})", "a server that allows it", "give the admin key")
    if status in _AWAY or any(words in message for words in _AWAY_WORDS):
        return Away(said)
    if status in _REFUSED:
        return UsageError(f"a batch that {where} refuses ({said})", "the model's shapes", "check them")
    return RuntimeUnavailableError(f"{where} ({status}: {said})", "a server with this model", "check its log")


def _client(name: str, where: Endpoint) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(f"tritonclient.{name}")
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"runtime {where} without tritonclient", "the package tritonclient", "install tocsin[triton]"
        ) from error


def _tensors(client: ModuleType, question: Question, memory: SharedMemory | None) -> tuple[list[Any], list[Any]]:
    """Return the inputs and outputs of a request as tritonclient takes them."""
    inputs = [client.InferInput(name, value.shape, "FP32") for name, value in question.inputs.items()]
    outputs = [client.InferRequestedOutput(name) for name in question.outputs]
    if memory is None:
        for tensor, value in zip(inputs, question.inputs.values(), strict=True):
            tensor.set_data_from_numpy(value)
        return inputs, outputs
    memory.write(question.inputs)
    for tensor in (*inputs, *outputs):
        offset, size = memory.place(tensor.name())
        tensor.set_shared_memory(memory.name, size, offset)
    return inputs, outputs


def _answer(result: Any, question: Question, memory: SharedMemory | None, where: Endpoint) -> dict[str, FloatArray]:  # noqa: ANN401 - one of two classes of tritonclient
    """Return the arrays of a result after comparing names and shapes with what was to come."""
    answer: dict[str, FloatArray] = {}
    for name, shape in question.outputs.items():
        described = result.get_output(name)
        there = described and (described["shape"] if isinstance(described, dict) else described.shape)
        value = None
        if there and tuple(map(int, there)) == shape:
            with suppress(ValueError):  # fewer bytes than the shape says
                value = result.as_numpy(name) if memory is None else memory.read(name, shape)
        if value is None or value.shape != shape or value.dtype != np.float32:
            raise RuntimeUnavailableError(
                f"{where}, whose output {name} is not of shape {shape}", "the model's outputs", "check the server's log"
            )
        answer[name] = np.array(value) if memory is None else value
    return answer


class GrpcWire:
    """Triton over gRPC; grpcs:// is checked against TOCSIN_TRITON_CA or the system's authorities."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._where = endpoint
        self._module = _client("grpc", endpoint)
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        # A server that comes back is found within a second; the default grows to two minutes.
        patience = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000)]
        # Otherwise two runtimes share one connection, and one that is closed takes the other's along.
        alone = [("grpc.use_local_subchannel_pool", 1)]
        self._client = self._module.InferenceServerClient(
            endpoint.address,
            ssl=endpoint.scheme == "grpcs",
            root_certificates=os.environ.get(CERTIFICATES),
            channel_args=unlimited + patience + alone,
        )

    def served(self, model: str) -> Served:
        """Return what the server says of a model."""
        config = self._call(lambda: self._client.get_model_config(model, client_timeout=CONNECT_S)).config
        said = {key: value.string_value for key, value in config.parameters.items()}
        groups = {group.Kind.Name(group.kind) for group in config.instance_group}
        return Served(said.get("precision"), said.get("graph_sha256"), "cuda" if "KIND_GPU" in groups else "cpu")

    def ask(
        self, model: str, question: Question, timeout_s: float, memory: SharedMemory | None = None
    ) -> dict[str, Any]:
        """Return the answer; see `Wire.ask`."""
        inputs, outputs = _tensors(self._module, question, memory)
        result = self._call(lambda: self._client.infer(model, inputs, outputs=outputs, client_timeout=timeout_s))
        return _answer(result, question, memory, self._where)

    def register(self, memory: SharedMemory) -> None:
        """Show the server a region of shared memory."""
        self._call(lambda: self._client.register_system_shared_memory(memory.name, memory.key, memory.size))

    def unregister(self, memory: SharedMemory) -> None:
        """Take it back."""
        self._call(lambda: self._client.unregister_system_shared_memory(memory.name, client_timeout=CONNECT_S))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, call: Any) -> Any:  # noqa: ANN401 - messages of tritonclient
        from tritonclient.utils import InferenceServerException

        try:
            return call()
        except InferenceServerException as error:
            raise failure(str(error.status()), str(error.message()), self._where) from None


@dataclass
class HttpWire:
    """Triton over HTTP with binary tensors; one connection a thread, and what the launcher needs to control a server.

    tritonclient encodes and decodes; the connection is the standard library's, because tritonclient's own belongs to
    the thread that made it.

    Attributes
    ----------
    where : Endpoint
        The server.
    headers : mapping of str to str
        Sent with every request: an admin key.
    """

    where: Endpoint
    headers: Mapping[str, str] = field(default_factory=dict)
    _own: threading.local = field(default_factory=threading.local, init=False)
    _all: list[http.client.HTTPConnection] = field(default_factory=list, init=False)

    def served(self, model: str) -> Served:
        """Return what the server says of a model."""
        config = json.loads(self._send("GET", f"/v2/models/{model}/config")[0])
        said = {key: value["string_value"] for key, value in config["parameters"].items()}
        groups = {group["kind"] for group in config["instance_group"]}
        return Served(said.get("precision"), said.get("graph_sha256"), "cuda" if "KIND_GPU" in groups else "cpu")

    def ask(
        self, model: str, question: Question, timeout_s: float, memory: SharedMemory | None = None
    ) -> dict[str, Any]:
        """Return the answer; see `Wire.ask`."""
        module = _client("http", self.where)
        inputs, outputs = _tensors(module, question, memory)
        client = module.InferenceServerClient
        body, split = client.generate_request_body(inputs, outputs=outputs)
        header = {} if split is None else {"Inference-Header-Content-Length": str(split)}
        said, split = self._send("POST", f"/v2/models/{model}/infer", body, header, timeout_s)
        result = client.parse_response_body(said, header_length=split)
        return _answer(result, question, memory, self.where)

    def register(self, memory: SharedMemory) -> None:
        """Show the server a region of shared memory."""
        body = json.dumps({"key": memory.key, "offset": 0, "byte_size": memory.size}).encode()
        self._send("POST", f"/v2/systemsharedmemory/region/{memory.name}/register", body)

    def unregister(self, memory: SharedMemory) -> None:
        """Take it back."""
        self._send("POST", f"/v2/systemsharedmemory/region/{memory.name}/unregister", b"{}")

    def index(self) -> dict[str, tuple[str, str]]:
        """Return state and reason of every model that the server was asked to load, by name."""
        rows = json.loads(self._send("POST", "/v2/repository/index", b"{}")[0])
        # Of several versions the one that is ready counts.
        rows.sort(key=lambda row: row.get("state") == "READY")
        return {row["name"]: (row.get("state", ""), row.get("reason", "")) for row in rows}

    def load(self, model: str, timeout_s: float) -> None:
        """Load a model, anew when it is loaded."""
        self._send("POST", f"/v2/repository/models/{model}/load", b"{}", timeout_s=timeout_s)

    def unload(self, model: str) -> None:
        """Unload a model."""
        self._send("POST", f"/v2/repository/models/{model}/unload", b"{}")

    def close(self) -> None:
        """Close every thread's connection."""
        while self._all:
            self._all.pop().close()
        self._own = threading.local()

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = CONNECT_S,
    ) -> tuple[bytes, int | None]:
        """Return the body of an answer and how much of it is JSON, after one request on this thread's connection."""
        connection = self._connection(timeout_s)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            said, split = response.read(), response.getheader("Inference-Header-Content-Length")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Away(f"{type(error).__name__}: {error}") from None
        if response.status != 200:
            with suppress(ValueError, KeyError, TypeError):
                said = json.loads(said)["error"].encode()
            raise failure(str(response.status), said.decode(errors="replace"), self.where)
        return said, int(split) if split else None

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.where.host, self.where.port)
            self._own.connection = connection
            self._all.append(connection)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection
