"""A user is registered once and takes one step for each change."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.chaos.evidence import EventRow
from tests.chaos.rules.kinds import CHANGE_STATUS, ERASE, REGISTER, UPDATE, succeeded
from tests.chaos.rules.problems import Case, Problem, Sort

# What a job of each kind tells of a user, at the most once.
EVENTS: Mapping[str, str] = {
    REGISTER: "UserRegistered",
    UPDATE: "UserUpdated",
    CHANGE_STATUS: "UserStatusChanged",
    ERASE: "UserErased",
}


def users_are_registered_once(case: Case) -> Iterator[Problem]:
    told = Counter(
        event.payload["user_id"] for event in case.evidence.events if event.name == EVENTS[REGISTER]
    )
    for job in succeeded(case, REGISTER):
        if job.is_scrubbed:
            continue
        user_id = str((job.result or {}).get("user_id"))
        if user_id not in case.evidence.users or told[user_id] != 1:
            there = "there" if user_id in case.evidence.users else "not there"
            yield Problem(
                sort=Sort.DUPLICATED if told[user_id] > 1 else Sort.MISSING,
                text=f"job {job.id!r} registered user {user_id!r}, who is {there} and was"
                f" announced {told[user_id]} times",
            )
    for user_id in case.evidence.users.keys() - told.keys():
        yield Problem(sort=Sort.UNASKED, text=f"user {user_id!r} was registered by no job")


def versions_are_steps(case: Case) -> Iterator[Problem]:
    """Check that a user's events count 1, 2, 3, … up to the version at which the user is."""
    versions: dict[str, list[int]] = defaultdict(list)
    for event in _of_users(case):
        versions[event.payload["user_id"]].append(event.payload["version"])
    for user in case.evidence.users.values():
        if versions[user.id] != list(range(1, user.version + 1)):
            yield Problem(
                sort=Sort.DUPLICATED if len(versions[user.id]) > user.version else Sort.MISSING,
                text=f"user {user.id!r} is at version {user.version},"
                f" events tell of {versions[user.id]}",
            )


def changes_are_made_once(case: Case) -> Iterator[Problem]:
    """Check that a job tells of its user at most once; one with a new name, exactly once."""
    told: dict[str, list[EventRow]] = defaultdict(list)
    for event in _of_users(case):
        told[event.job_id].append(event)
    for kind, name in EVENTS.items():
        for job in succeeded(case, kind):
            names = [event.name for event in told[job.id]]
            if names not in ([], [name]):
                yield Problem(
                    sort=Sort.DUPLICATED, text=f"job {job.id!r} ({kind}) tells of {names}"
                )
            for event in () if job.is_scrubbed else told[job.id]:
                if event.payload["version"] != (job.result or {}).get("version"):
                    yield Problem(
                        sort=Sort.MISSING,
                        text=f"job {job.id!r} answered {job.result}, its event tells of version"
                        f" {event.payload['version']}",
                    )
    names_of_jobs = _names(case)
    for job in succeeded(case, UPDATE):
        key = _name_key(case, job.id)
        if key and names_of_jobs[key] == 1 and not told[job.id]:
            yield Problem(
                sort=Sort.MISSING,
                text=f"job {job.id!r} gave user {key[0]!r} a new name and has changed nothing",
            )


RULES = (users_are_registered_once, versions_are_steps, changes_are_made_once)


def _of_users(case: Case) -> Iterator[EventRow]:
    names = frozenset(EVENTS.values())
    return (event for event in case.evidence.events if event.name in names)


def _names(case: Case) -> Counter[tuple[str, str]]:
    """Count the jobs that give a user a name: one that no other job gives is new."""
    keys = (_name_key(case, job_id) for job_id in case.evidence.jobs)
    return Counter(key for key in keys if key)


def _name_key(case: Case, job_id: str) -> tuple[str, str] | None:
    # From the client: the ledger forgets the names of those who were erased.
    told = case.testimony.jobs.get(job_id)
    payload: Mapping[str, Any] = told.taken[0].payload if told and told.taken else {}
    user_id = payload.get("user_id")
    return (user_id, payload["name"]) if user_id and payload.get("name") else None
