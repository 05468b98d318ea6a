"""The job kinds of users."""

from domain.jobs.kinds import JobKind
from domain.users import commands, services

QUEUE = "users"

KINDS = (
    JobKind(
        command=commands.RegisterUser,
        handler=services.register_users,
        queue=QUEUE,
        personal=True,
        about="a new user",
    ),
    JobKind(
        command=commands.UpdateUser,
        handler=services.update_users,
        queue=QUEUE,
        personal=True,
        about="user {user_id}",
    ),
    JobKind(
        command=commands.ChangeUserStatus,
        handler=services.change_user_statuses,
        queue=QUEUE,
        personal=True,
        about="user {user_id}",
    ),
    JobKind(
        command=commands.EraseUser,
        handler=services.erase_users,
        queue=QUEUE,
        personal=True,
        about="user {user_id}",
    ),
)
