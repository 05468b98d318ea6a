"""All job kinds, by name."""

from collections.abc import Mapping

from domain.allocation.kinds import KINDS as ALLOCATION
from domain.imports.kinds import KINDS as IMPORTS
from domain.jobs.kinds import JobKind
from domain.jobs.maintenance import KINDS as MAINTENANCE
from domain.users.kinds import KINDS as USERS

KINDS: Mapping[str, JobKind] = {
    kind.name: kind for kind in (*ALLOCATION, *USERS, *IMPORTS, *MAINTENANCE)
}
