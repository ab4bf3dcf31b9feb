"""Which serving job a `connect` section leads to, among the configs that were given. Pure.

A config names its peer by an address, and the peer's config does not have that. So a job is joined to
the one that can be meant: of the other side's kind, by the same transport and port, and of the host with
that name, if one has it. Else it is taken for the only one elsewhere that serves it, which a note tells. As
whom it connects is not in its config either (a key of ssh or TLS says it, or its address): where the
serving job knows several, it is the one with the host's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeVar

from zrepl_trio.config.model import PullJob, SinkJob, SourceJob
from zrepl_trio.config.transport import (
    Connect,
    LocalConnect,
    LocalServe,
    Serve,
    SshStdinserverConnect,
    StdinserverServe,
    TcpConnect,
    TcpServe,
    TlsConnect,
    TlsServe,
)
from zrepl_trio.errors import UsageRefused
from zrepl_trio.simulate.hosts import ActiveSection, PassiveSection, SimulatedHost

__all__ = ["JOIN_WORDS", "Join", "JoinSpec", "join_all", "parse_join"]

JOIN_WORDS = "HOST/JOB=HOST/JOB[:IDENTITY], such as backup-srv/pull=app-srv/source:backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """The active job `job` of `host` connects to `peer_job` of `peer`, which knows it as `identity`. `note`
    tells what was supposed for that; empty: nothing."""

    host: str
    job: str
    peer: str
    peer_job: str
    identity: str
    note: str = ""

    @property
    def hosts(self) -> frozenset[str]:
        """Both ends; one alone for a link within a host."""
        return frozenset({self.host, self.peer})

    def __str__(self) -> str:
        return f"{self.host}/{self.job} to {self.peer}/{self.peer_job} as {self.identity}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSpec:
    """What one --join says; `identity` None: the only one, or that with the host's name."""

    host: str
    job: str
    peer: str
    peer_job: str
    identity: str | None


def parse_join(text: str) -> JoinSpec:
    """UsageRefused, with what is accepted, for what is none."""
    match = re.fullmatch(r"([^/=:]+)/([^=]+)=([^/=:]+)/([^:]+)(?::(.+))?", text)
    if match is None:
        raise UsageRefused(f"--join {text!r} cannot be read (accepted: {JOIN_WORDS})")
    host, job, peer, peer_job, identity = match.groups()
    return JoinSpec(host=host, job=job, peer=peer, peer_job=peer_job, identity=identity)


def join_all(hosts: Sequence[SimulatedHost], given: Sequence[JoinSpec] = ()) -> list[Join]:
    """A Join for every active job, in the order of hosts and jobs. UsageRefused, with what to do, for one
    whose peer is missing or in doubt, for a `given` one that fits nothing or comes twice, and for two hosts that one
    serving job would take for one client, unless `given` says that they are to be."""
    left: dict[tuple[str, str], JoinSpec] = {}
    for spec in given:
        if left.setdefault((spec.host, spec.job), spec) is not spec:
            raise UsageRefused(
                f"--join is given twice for {spec.host}/{spec.job}: it leads to one job only"
            )
    joins = [
        _join(host, job, hosts, left.pop((host.name, job.name), None))
        for host in hosts
        for job in host.active
    ]
    for spec in left.values():
        raise UsageRefused(
            f"--join: there is no active job {spec.job!r} of a host {spec.host!r}; there are "
            + (", ".join(f"{join.host}/{join.job}" for join in joins) or "none")
        )
    said = {(spec.host, spec.job) for spec in given if spec.identity is not None}
    return [_told_apart(join, joins, hosts, said) for join in joins]


def _told_apart(
    join: Join,
    joins: Sequence[Join],
    hosts: Sequence[SimulatedHost],
    said: set[tuple[str, str]],
) -> Join:
    """The join, with a note if another host's comes in as the same client; UsageRefused, unless all of these
    but one are `said` to."""
    client = (join.peer, join.peer_job, join.identity)
    same = [each for each in joins if (each.peer, each.peer_job, each.identity) == client]
    if len({each.host for each in same}) == 1:
        return join
    names = " and ".join(f"{each.host}/{each.job}" for each in same)
    unsaid = [each for each in same if (each.host, each.job) not in said]
    if len(unsaid) > 1:
        key = _clients_key(join, hosts)
        raise UsageRefused(
            f"{names} would be the same client {join.identity!r} to {join.peer}/{join.peer_job}, which takes what one "
            f"does for the other's: give each host a name of its own in its `{key}`, or, if it is so, say --join "
            f"{unsaid[-1].host}/{unsaid[-1].job}={join.peer}/{join.peer_job}:{join.identity}"
        )
    if join is not same[0]:
        return join
    note = f"{names} are the same client {join.identity!r} to {join.peer}/{join.peer_job}, as --join says"
    return replace(join, note=f"{join.note}; {note}" if join.note else note)


def _clients_key(join: Join, hosts: Sequence[SimulatedHost]) -> str:
    (section,) = (
        section
        for host in hosts
        if host.name == join.peer
        for section in host.passive
        if section.name == join.peer_job
    )
    match section.serve:
        case StdinserverServe():
            return "client_identities"
        case TlsServe():
            return "client_cns"
        case _:
            return "clients"


def _join(
    host: SimulatedHost,
    job: ActiveSection,
    hosts: Sequence[SimulatedHost],
    spec: JoinSpec | None,
) -> Join:
    kind = SourceJob if isinstance(job, PullJob) else SinkJob
    found = [
        (peer, section)
        for peer in hosts
        for section in peer.passive
        if isinstance(section, kind)
        and _may_lead_to(job.connect, section.serve, same_host=peer is host)
    ]
    if spec is not None:
        chosen = [
            (peer, section)
            for peer, section in found
            if (peer.name, section.name) == (spec.peer, spec.peer_job)
        ]
        if not chosen:
            raise UsageRefused(
                f"--join: {host.name}/{job.name} connects by {job.connect.type} and cannot lead to "
                f"{spec.peer}/{spec.peer_job}; what it can: {_listed(found)}"
            )
        found = chosen
    else:
        found = _narrowed(host, job, found, hosts)
    if not found:
        raise UsageRefused(_missing(host, job, hosts))
    if len(found) > 1:
        raise UsageRefused(
            f"{host.name}: job {job.name!r} may lead to any of {_listed(found)}: say to which with "
            f"--join {host.name}/{job.name}={found[0][0].name}/{found[0][1].name}"
        )
    ((peer, section),) = found
    identity = spec.identity if spec is not None and spec.identity else None
    return Join(
        host=host.name,
        job=job.name,
        peer=peer.name,
        peer_job=section.name,
        identity=_identity(host, job, peer, section, identity),
        note="" if spec is not None else _supposed(host, job, peer, section),
    )


def _may_lead_to(connect: Connect, serve: Serve, *, same_host: bool) -> bool:
    match connect, serve:
        case LocalConnect(), LocalServe():
            return same_host and connect.listener_name == serve.listener_name
        case SshStdinserverConnect(), StdinserverServe():
            return True
        case TcpConnect(address=address), TcpServe(listen=listen):
            return address.port == listen.port
        case TlsConnect(address=address), TlsServe(listen=listen):
            return address.port == listen.port
        case _:
            return False


_Found = list[tuple[SimulatedHost, PassiveSection]]


def _narrowed(
    host: SimulatedHost, job: ActiveSection, found: _Found, hosts: Sequence[SimulatedHost]
) -> _Found:
    """Those on the host that the job connects to by its name; where none is called so, those elsewhere,
    and of several the one that knows this host."""
    if isinstance(job.connect, LocalConnect):
        return found[:1]
    target = _target(job)
    meant = _called(target, hosts)
    if meant:
        found = [each for each in found if each[0] in meant]
    elif not _is_this_host(target):
        found = [each for each in found if each[0] is not host]
    if len(found) < 2:
        return found
    named = _likest(found, lambda each: _likeness(each[0].name, target)) or found
    ours = _likest(
        named,
        lambda each: max((_likeness(name, host.name) for name in _known(host, each[1])), default=0),
    )
    return ours if len(ours) == 1 else named


def _called(target: str, hosts: Sequence[SimulatedHost]) -> list[SimulatedHost]:
    """The hosts that this name means without a doubt."""
    found = _likest(hosts, lambda each: _likeness(each.name, target))
    return [each for each in found if _likeness(each.name, target) > _LABEL]


def _supposed(
    host: SimulatedHost, job: ActiveSection, peer: SimulatedHost, section: PassiveSection
) -> str:
    if isinstance(job.connect, LocalConnect):
        return ""
    target = _target(job)
    if _likeness(peer.name, target) > _LABEL or (peer is host and _is_this_host(target)):
        return ""
    return (
        f"{host.name}: job {job.name} connects to {target}, and no host here is called so: taken for {peer.name}, "
        f"whose job {section.name} serves it (if that is so, say --join {host.name}/{job.name}="
        f"{peer.name}/{section.name}; else give the config of {target} with --peer)"
    )


def _target(job: ActiveSection) -> str:
    match job.connect:
        case SshStdinserverConnect(host=name):
            return name
        case LocalConnect(listener_name=name):
            return name
        case TcpConnect(address=address) | TlsConnect(address=address):
            return address.host


_LABEL, _SHORT, _EQUAL = 1, 2, 3


def _likeness(one: str, other: str) -> int:
    """How surely both mean one host: they are equal; one is the other's short form, as `app-srv` is that
    of `app-srv.example.com`; they have the first label in common; or nothing, which is 0."""
    if one == other:
        return _EQUAL
    if _is_address(one) or _is_address(other):
        return 0
    if one.startswith(f"{other}.") or other.startswith(f"{one}."):
        return _SHORT
    return _LABEL if one.partition(".")[0] == other.partition(".")[0] else 0


_T = TypeVar("_T")


def _likest(each_of: Sequence[_T], likeness: Callable[[_T], int]) -> list[_T]:
    """Those with the greatest likeness; none where none has any."""
    best = max(map(likeness, each_of), default=0)
    return [each for each in each_of if best and likeness(each) == best]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_this_host(target: str) -> bool:
    """Whether it may lead back to where it is said; a tunnel leads elsewhere from there, too."""
    return target == "localhost" or (_is_address(target) and ip_address(target).is_loopback)


def _identities(section: PassiveSection) -> tuple[str, ...]:
    match section.serve:
        case StdinserverServe(client_identities=names) | TlsServe(client_cns=names):
            return names
        case TcpServe(clients=clients):
            return tuple(clients.values())
        case _:
            return ()


def _known(host: SimulatedHost, section: PassiveSection) -> tuple[str, ...]:
    """As whom the job could take that host. The address that takes a star's place is not in a config."""
    return tuple(name.replace("*", host.name) for name in _identities(section))


def _identity(
    host: SimulatedHost,
    job: ActiveSection,
    peer: SimulatedHost,
    section: PassiveSection,
    given: str | None,
) -> str:
    if isinstance(job.connect, LocalConnect):
        return job.connect.client_identity
    known = _known(host, section)
    if given is not None:
        if given not in known:
            raise UsageRefused(
                f"--join: {peer.name}/{section.name} knows no {given!r}, but {', '.join(known)}"
            )
        return given
    named = _likest(known, lambda name: _likeness(name, host.name))
    if len(named) == 1 or len(known) == 1:
        return (named or list(known))[0]
    raise UsageRefused(
        f"{host.name}: job {job.name!r} may be any of {', '.join(known)} to {peer.name}/{section.name}: "
        f"say which with --join {host.name}/{job.name}={peer.name}/{section.name}:{known[0]}, or give "
        "the host that name, as in NAME=FILE"
    )


def _listed(found: _Found) -> str:
    return ", ".join(f"{peer.name}/{section.name}" for peer, section in found) or "nothing"


def _missing(host: SimulatedHost, job: ActiveSection, hosts: Sequence[SimulatedHost]) -> str:
    wanted = "source" if isinstance(job, PullJob) else "sink"
    target = _target(job)
    if isinstance(job.connect, LocalConnect):
        return (
            f"{host.path}: job {job.name!r} connects to the local listener {target!r}, which no "
            f"{wanted} job of the same config serves"
        )
    port = "" if isinstance(job.connect, SshStdinserverConnect) else f":{job.connect.address.port}"
    if meant := _called(target, hosts):
        return (
            f"{host.path}: job {job.name!r} connects to {target}{port} by {job.connect.type}, but "
            f"{' and '.join(each.path for each in meant)} has no {wanted} job that serves that: give that host one, or "
            f"another name, as in NAME={meant[0].path}"
        )
    given = ", ".join(each.path for each in hosts)
    return (
        f"{host.path}: job {job.name!r} connects to {target}{port} by {job.connect.type}, but none of "
        f"the configs given ({given}) has a {wanted} job that serves that: give the config of {target} "
        "with --peer FILE"
    )
