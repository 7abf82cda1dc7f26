import json
import stat
import threading
from datetime import UTC, datetime

import pytest
from gate_stand_ins import settings

from serving.gate.tokens import PREFIX, KnownTokens, TokenStore, any_token, digest
from tocsin.errors import NotFoundError, RuntimeUnavailableError, UsageError


@pytest.fixture
def store(tmp_path):
    """Return the store of a state folder that is not there yet."""
    return TokenStore(tmp_path / "state")


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self):
        """Return the time."""
        return self.now


def test_only_a_hash_is_kept(store, tmp_path):
    """The file holds no token, is for its owner only, and neither text nor JSON of a token shows its hash."""
    clear, token = store.new("ops-room", jobs=3)
    path = tmp_path / "state/tokens.json"
    assert clear.startswith(PREFIX)
    assert len(clear) > 40
    assert clear not in path.read_text()
    assert digest(clear) in path.read_text()
    assert digest(clear) not in repr(token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir() if "part" in each.name] == []


def test_tokens_are_known_by_what_they_hash_to(store, tmp_path):
    """A token is found again with its name and quotas; another text is not."""
    clear, _ = store.new("ops-room", requests_per_minute=30, jobs=3)
    store.new("other")
    known = KnownTokens(settings(tmp_path))
    found = known.find(clear)
    assert found is not None
    assert (found.name, found.requests_per_minute, found.jobs) == ("ops-room", 30, 3)
    for other in ("", clear[:-1], clear + "x", clear.upper(), digest(clear), "\udc80", "ops-room"):
        assert known.find(other) is None


def test_clear_tokens_are_named_by_their_hash(tmp_path):
    """A token of the environment has the same name wherever it stands in the list, and no other token gets it."""
    first = KnownTokens(settings(tmp_path, tokens=("one", "two"))).find("two")
    assert first is not None
    alone = KnownTokens(settings(tmp_path, tokens=("two",))).find("two")
    assert alone is not None
    assert first.name == alone.name == f"env-{digest('two')[:8]}"
    assert any_token(settings(tmp_path, tokens=("two",)))
    assert not any_token(settings(tmp_path))


def test_running_service_learns_of_new_and_revoked_tokens(store, tmp_path):
    """What another process changes counts a second later, and the file is not read at every request."""
    clock = Clock()
    known = KnownTokens(settings(tmp_path), clock)
    assert not known.any
    clear, _ = store.new("ops-room")
    assert known.find(clear) is None
    clock.now += 1.5
    assert known.find(clear) is not None
    store.revoke("ops-room")
    clock.now += 1.5
    assert known.find(clear) is None


def test_names_and_quotas_are_checked(store):
    """A name is short and plain, and has one token; a quota is at least 1."""
    store.new("ops-room")
    for name in ("ops-room", "", "a b", "../x", "a" * 65, "-a", "a\n"):
        with pytest.raises(UsageError):
            store.new(name)
    with pytest.raises(UsageError, match="jobs"):
        store.new("other", jobs=0)
    with pytest.raises(NotFoundError, match="ops-room"):
        store.revoke("other")
    assert [each.name for each in store.all()] == ["ops-room"]


def test_many_writers_lose_nothing(store):
    """Tokens that are made at the same time are all kept."""
    threads = [threading.Thread(target=store.new, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.name for each in store.all()} == {f"t{number}" for number in range(8)}


def test_last_use_is_written_once_a_minute(store, tmp_path):
    """The first use is due, the next ones are not; one that was revoked meanwhile does not come back."""
    clear, _ = store.new("ops-room")
    store.new("other")
    known = KnownTokens(settings(tmp_path))
    token = known.find(clear)
    assert known.note_use(token)
    assert not known.note_use(token)
    store.revoke("other")
    known.write_uses()
    (kept,) = store.all()
    assert kept.last_used is not None
    assert (datetime.now(UTC) - kept.last_used).total_seconds() < 60
    env = KnownTokens(settings(tmp_path, tokens=("clear",)))
    assert not env.note_use(env.find("clear"))


@pytest.mark.parametrize("text", ["", "no json", '{"tokens": [{"name": "a"}]}', '{"tokens": [], "more": 1}'])
def test_damaged_file_lets_nobody_in(store, tmp_path, text):
    """A file that cannot be read stops the start, and is a service that is not available later on."""
    clear, _ = store.new("ops-room")
    clock = Clock()
    known = KnownTokens(settings(tmp_path), clock)
    assert known.find(clear) is not None
    (tmp_path / "state/tokens.json").write_text(text)
    with pytest.raises(UsageError):
        store.all()
    clock.now += 2
    with pytest.raises(RuntimeUnavailableError) as caught:
        known.find(clear)
    assert str(tmp_path) not in str(caught.value)


def test_commands_make_list_and_revoke(tmp_path, monkeypatch, capsys):
    """`tocsin token` shows a token once, lists names without it, and forgets it."""
    import typer

    from serving.token_commands import token

    monkeypatch.setenv("TOCSIN_STATE", str(tmp_path / "state"))
    command = typer.main.get_command(token)

    def said(*arguments):
        command.main(arguments, standalone_mode=False)
        return capsys.readouterr().out

    clear = said("new", "ops-room", "--jobs", "3").strip()
    assert KnownTokens(settings(tmp_path)).find(clear).jobs == 3
    other = json.loads(said("new", "other", "--json"))
    assert other["token"].startswith(PREFIX)
    assert "sha256" not in other
    listed = said("list")
    assert "ops-room" in listed
    assert clear not in listed
    assert digest(clear) not in listed
    assert [each["name"] for each in json.loads(said("list", "--json"))["tokens"]] == ["ops-room", "other"]
    assert said("revoke", "other") == "other is revoked\n"
    assert json.loads(said("revoke", "ops-room", "--json")) == {"name": "ops-room", "state": "revoked"}
    assert said("list") == "no token\n"
