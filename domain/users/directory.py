"""Who holds which key, as a batch of commands goes along."""

from collections.abc import Collection, Iterable

from domain.users.errors import UserIsErased
from domain.users.identity import IdentityField, IdentityKey
from domain.users.model import User


class Directory:
    """The holders of the keys that a batch is about, and the keys that were erased."""

    def __init__(self, users: Iterable[User], *, erased: Collection[bytes]) -> None:
        self._holders = {key: user.id for user in users for key in user.keys}
        self._erased = erased
        self._released: set[IdentityKey] = set()

    def check_free(self, keys: Iterable[IdentityKey], *, user_id: str, returning: bool) -> None:
        """Refuse keys that this user cannot take; who is `returning` may take an erased email.

        Raises:
            IdentityTaken: Another user holds one: EmailTaken, UsernameTaken, ExternalIdTaken.
            UserIsErased: One is that of an erased person.
        """
        for key in keys:
            holder = self._holders.get(key)
            if holder is not None and holder != user_id:
                raise key.field.taken.by(holder)
            allowed = returning and key.field is IdentityField.EMAIL
            if key.outlives_its_user and key.digest in self._erased and not allowed:
                raise UserIsErased.known_by(key.field)

    def enter(self, user: User) -> None:
        """Note the keys that the user holds."""
        self._holders.update(dict.fromkeys(user.keys, user.id))

    def release(self, keys: Iterable[IdentityKey]) -> None:
        """Note that nobody holds these keys any more."""
        for key in keys:
            del self._holders[key]
            self._released.add(key)

    def passes_on(self, keys: Iterable[IdentityKey]) -> bool:
        """Tell whether one of these keys was released since the last `settle`."""
        return not self._released.isdisjoint(keys)

    def settle(self) -> None:
        """Note that every release is written."""
        self._released.clear()
