"""What can go wrong between us and a server of our own."""


class EmbeddedServerError(Exception):
    """An embedded server cannot do what it was asked to."""


class BinariesNotFound(EmbeddedServerError):
    """No usable programs of a server were found, in a wheel or on PATH."""


class UntrustedFolder(EmbeddedServerError):
    """A folder in a place everyone may write to is not ours alone."""


class UnreadableState(EmbeddedServerError):
    """The file a server's address and passwords are kept in holds something else."""


class ServerNeverStarted(EmbeddedServerError):
    """The server has no address yet."""


class ServerDidNotStart(EmbeddedServerError):
    """The server ended, or stayed silent, where it should have answered."""


class ServerDidNotStop(EmbeddedServerError):
    """The server outlived its signal to stop."""
