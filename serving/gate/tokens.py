"""Bearer tokens: kept as hashes, known by name, each with its own quotas.

A token is 256 random bits, so that one round of SHA-256 is enough to hide it: there is nothing to guess. The file is
`tokens.json` in the state folder, for its owner only; it is replaced whole, under a lock, so that the service and
`tocsin token` may write at the same time.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from serving.settings import ServiceSettings
from tocsin.errors import NotFoundError, RuntimeUnavailableError, UsageError

PREFIX: Final = "tocsin_"
FILE: Final = "tokens.json"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RELOAD_S: Final = 1.0
"""How long a token that was made or revoked may go unnoticed."""
USED_EVERY: Final = timedelta(minutes=1)
"""How often the last use of a token is written down."""

Quota = Annotated[int, Field(ge=1)]


class Token(BaseModel):
    """What is known of a token; itself it is known to nobody but its bearer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME.pattern}$", description="who bears it")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", repr=False, description="of the token")
    created: AwareDatetime | None = Field(description="UTC; null for a token of TOCSIN_TOKENS")
    last_used: AwareDatetime | None = Field(default=None, description="UTC, to the minute; null: never")
    requests_per_minute: Quota | None = Field(default=None, description="null: as the service is set")
    jobs: Quota | None = Field(
        default=None, description="jobs waiting or running at a time; null: as the service is set"
    )


class TokenFile(BaseModel):
    """Content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[Token, ...] = ()


class TokenStore:
    """The tokens of a state folder.

    Parameters
    ----------
    state
        The folder; made with the first token.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE

    def all(self) -> tuple[Token, ...]:
        """Return every token, in the order made.

        Raises
        ------
        UsageError
            The file cannot be read: nobody is let in on a guess.
        """
        try:
            return TokenFile.model_validate_json(self._path.read_bytes()).tokens
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise UsageError(
                f"{self._path}, which cannot be read ({type(error).__name__})",
                "the file that tocsin token writes",
                "restore it, or move it away and make new tokens",
            ) from error

    def new(self, name: str, *, requests_per_minute: int | None = None, jobs: int | None = None) -> tuple[str, Token]:
        """Make a token, and return it with what is kept of it; it can never be shown again.

        Raises
        ------
        UsageError
            The name is taken or no name, or a quota is below 1.
        """
        clear = PREFIX + secrets.token_urlsafe(32)
        try:
            token = Token(
                name=name,
                sha256=digest(clear),
                created=datetime.now(UTC).replace(microsecond=0),
                requests_per_minute=requests_per_minute,
                jobs=jobs,
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UsageError(
                f"{first['loc'][0]} {first['input']!r}", str(first["msg"]), "choose another one"
            ) from error
        with self._changing() as tokens:
            if any(each.name == name for each in tokens):
                raise UsageError(f"the name {name}, which has a token", "a new name", "revoke the old one first")
            tokens.append(token)
        return clear, token

    def revoke(self, name: str) -> None:
        """Forget a token: its bearer is refused from the next second on.

        Raises
        ------
        NotFoundError
            There is no token of that name.
        """
        with self._changing() as tokens:
            kept = [each for each in tokens if each.name != name]
            if len(kept) == len(tokens):
                known = ", ".join(each.name for each in tokens) or "no token at all"
                raise NotFoundError(f"the token {name}", known, "see tocsin token list")
            tokens[:] = kept

    def used(self, when: dict[str, datetime]) -> None:
        """Write down when tokens were last used; those revoked meanwhile stay so."""
        with self._changing() as tokens:
            tokens[:] = [
                each.model_copy(update={"last_used": when[each.name]}) if each.name in when else each for each in tokens
            ]

    @property
    def version(self) -> tuple[int, int] | None:
        """What changes whenever the file does; None without a file."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino

    @contextmanager
    def _changing(self) -> Generator[list[Token]]:
        """Yield the tokens under the lock; what the block leaves in the list replaces the file."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = list(self.all())
            yield tokens
            aside = self._path.with_suffix(f".{secrets.token_hex(4)}.part")
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(TokenFile(tokens=tuple(tokens)).model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._path)
        finally:
            os.close(lock)


class KnownTokens:
    """The tokens that a service lets in: those of its state folder and those of TOCSIN_TOKENS.

    Parameters
    ----------
    settings
        Of the service.
    clock
        Seconds, for how old is what was read.
    """

    def __init__(self, settings: ServiceSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = TokenStore(settings.state)
        self._clock = clock
        self._clear = tuple(
            Token(name=f"env-{digest(clear)[:8]}", sha256=digest(clear), created=None)
            for clear in (each.get_secret_value() for each in settings.tokens)
        )
        self._read_at = float("-inf")
        self._version: tuple[int, int] | None = None
        self._tokens = self._clear
        self._used: dict[str, datetime] = {}

    @property
    def any(self) -> bool:
        """Whether there is any; without one nobody but this machine is let in."""
        self._refresh()
        return bool(self._tokens)

    def find(self, clear: str) -> Token | None:
        """Return what is known of a token that somebody bears, None when it is no token.

        Every hash is compared, each in constant time.
        """
        self._refresh()
        asked, found = digest(clear), None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, asked):
                found = token
        return found

    def note_use(self, token: Token) -> bool:
        """Remember that a token was used now; True when that is due to be written down with `write_uses`."""
        if token.created is None:
            return False
        now = datetime.now(UTC).replace(microsecond=0)
        before = self._used.get(token.name, token.last_used)
        if before is not None and now - before < USED_EVERY:
            return False
        self._used[token.name] = now
        return True

    def write_uses(self) -> None:
        """Write down the last use of every token."""
        self._store.used(dict(self._used))

    def _refresh(self) -> None:
        """Read the file again when it is another one than a second ago."""
        now = self._clock()
        if now - self._read_at < RELOAD_S:
            return
        version = self._store.version
        if version != self._version or self._read_at == float("-inf"):
            try:
                self._tokens = (*self._clear, *self._store.all())
            except UsageError as error:
                raise RuntimeUnavailableError(
                    "a request while the service cannot read its tokens", "a service that can", "tell who runs it"
                ) from error
            self._version = version
        self._read_at = now


def digest(clear: str) -> str:
    """Return the SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(clear.encode("utf-8", errors="surrogateescape")).hexdigest()


def any_token(settings: ServiceSettings) -> bool:
    """Whether a service with these settings asks for a token."""
    return KnownTokens(settings).any
