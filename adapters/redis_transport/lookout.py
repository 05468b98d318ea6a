"""Waiting at empty lists: Redis tells that something has come, and hands over nothing."""

from collections.abc import Iterable

from redis.connection import AbstractConnection


class Lookout:
    """Asks Redis whether any of some lists is there, and to tell when one of them changes.

    That is its client-side caching: who has read a key is told once when it changes. A list that
    is empty is not there, and may be read all the same.
    """

    def __init__(self) -> None:
        self.is_answered = True
        """Whether Redis owes no answer: from then on it tells by itself."""

    def ask(self, connection: AbstractConnection, lists: Iterable[str]) -> None:
        """Ask; the first part lasts as long as the connection, and does no harm again."""
        self.is_answered = False
        connection.send_packed_command(
            connection.pack_commands([("CLIENT", "TRACKING", "ON"), ("EXISTS", *lists)])
        )

    def hear(self, connection: AbstractConnection) -> bool:
        """Read what Redis has said, without waiting; tell whether something may lie there.

        Raises:
            redis.exceptions.ResponseError: It does not do that, or not for this user.
        """
        has_come = False
        while connection.can_read():
            said = connection.read_response(push_request=True)
            if isinstance(said, int):
                self.is_answered = True
                has_come = said > 0
            elif said is None and self.is_answered:
                # What it told before it answered, the answer knows of.
                has_come = True
        return has_come
