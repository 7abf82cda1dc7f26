from ipaddress import ip_address

import httpx
import pytest
from gate_stand_ins import make_authority, resolver, run, serve, settings

from serving.gate.addresses import PinnedTransport, check_addresses, resolve
from tocsin.errors import ForbiddenReferenceError, UsageError

HOSTILE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "0.0.0.1", "::", "::1", "fe80::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::",
]  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return a certificate authority and the context of a server that it vouches for."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("address", HOSTILE)
def test_addresses_that_are_not_public_are_refused(tmp_path, address):
    """Private, loopback, link-local, reserved and multicast addresses are refused, also inside IPv6 ones."""
    with pytest.raises(ForbiddenReferenceError):
        check_addresses("data.example.org", [ip_address("8.8.8.8"), ip_address(address)], settings(tmp_path))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_pass(tmp_path, address):
    """The internet is open to hosts on the allow-list."""
    check_addresses("data.example.org", [ip_address(address)], settings(tmp_path))


def test_networks_of_the_operator_pass(tmp_path):
    """A private archive may be allowed by its network; where clouds keep secrets may not."""
    allowing = settings(tmp_path, reference_networks=("10.1.0.0/16", "169.254.0.0/16", "fd00::/8"))
    check_addresses("archive", [ip_address("10.1.2.3"), ip_address("fd00::1")], allowing)
    for address in ("10.2.0.1", "169.254.169.254"):
        with pytest.raises(ForbiddenReferenceError):
            check_addresses("archive", [ip_address(address)], allowing)


def test_networks_that_are_none_are_said(tmp_path):
    """A setting that is no network is named, not ignored."""
    with pytest.raises(UsageError, match="TOCSIN_REFERENCE_NETWORKS"):
        check_addresses("archive", [ip_address("10.1.2.3")], settings(tmp_path, reference_networks=("10.1",)))


def test_names_are_resolved_by_the_system():
    """Odd spellings of an address are what the system makes of them; a name without an address is an error."""
    assert ip_address("127.0.0.1") in run(resolve, "localhost", 443)
    assert run(resolve, "2130706433", 443) == [ip_address("127.0.0.1")]
    with pytest.raises(UsageError):
        run(resolve, "no-such-host.invalid", 443)


async def asked_for(transport, url):
    """Ask once and return the text of the answer."""
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        return (await client.get(url)).text


def test_the_address_that_was_judged_is_connected_to(tmp_path, authority):
    """One resolution, one connection: the name is in TLS and in Host, the address comes from the resolver alone."""
    path, context = authority
    trusting = settings(tmp_path, reference_networks=("127.0.0.0/8",), reference_ca=path)
    known = resolver(data__example__org="127.0.0.1", other__name="127.0.0.1")
    with serve({"/a": (200, {}, b"here")}, context) as server:
        port = server.server_port
        assert run(asked_for, PinnedTransport(trusting, known), f"https://data.example.org:{port}/a") == "here"
        assert known.asked == ["data.example.org"]
        assert server.asked == [(f"data.example.org:{port}", "/a")]
        with pytest.raises(httpx.ConnectError, match=r"other\.name"):
            run(asked_for, PinnedTransport(trusting, known), f"https://other.name:{port}/a")


def test_next_address_is_tried(tmp_path, authority):
    """Where one address does not answer, the next one of the same judged answer is asked."""
    path, context = authority
    trusting = settings(tmp_path, reference_networks=("127.0.0.0/8",), reference_ca=path)
    known = resolver(data__example__org="127.0.0.2 127.0.0.1")
    with serve({"/a": (200, {}, b"here")}, context) as server:
        assert (
            run(asked_for, PinnedTransport(trusting, known), f"https://data.example.org:{server.server_port}/a")
            == "here"
        )


def test_unknown_authorities_are_refused(tmp_path, authority):
    """Without the operator's authority only public ones count."""
    _, context = authority
    known = resolver(data__example__org="127.0.0.1")
    transport = PinnedTransport(settings(tmp_path, reference_networks=("127.0.0.0/8",)), known)
    with serve({}, context) as server, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        run(asked_for, transport, f"https://data.example.org:{server.server_port}/a")
