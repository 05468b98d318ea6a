"""TLS to the broker: what its address says, in the words of each library that reads it.

A certificate is always verified, and for the name that was asked for, unless the address says
`ssl_cert_reqs=none`: left to themselves, kombu verifies nothing where an address says only
`rediss://`, and no name where it says `amqps://`.
"""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

ENCRYPTED = ("rediss", "amqps")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Parameters of an address that name files: who is trusted, and a certificate of our own."""
VERIFY = "ssl_cert_reqs"
_VERIFIED = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}


def checked(url: str) -> str:
    """Return an address that says outright that certificates are verified, where it is encrypted.

    Raises:
        ValueError: It says what cannot be, or what would be left out without a word.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    said = {name: value for name, value in query.items() if name.startswith("ssl_")}
    if parts.scheme not in ENCRYPTED:
        if said:
            raise ValueError(
                f"{parts.scheme}:// is not encrypted, so {', '.join(sorted(said))} would not count:"
                f" it begins with {' or '.join(f'{scheme}://' for scheme in ENCRYPTED)}"
            )
        return url
    unknown = sorted(said.keys() - {*FILES, VERIFY})
    if unknown:
        raise ValueError(
            f"{unknown[0]} is not known: there are {', '.join((*FILES, VERIFY))};"
            " the server's name is always checked"
        )
    if said.setdefault(VERIFY, "required") not in _VERIFIED:
        raise ValueError(f"{VERIFY} is required, or none to trust whoever answers")
    for name in FILES:
        if name in said and not (Path(said[name]).is_file() and os.access(said[name], os.R_OK)):
            raise ValueError(f"{name}: there is no file {said[name]} that this process may read")
    return parts._replace(query=urlencode({**query, **said}, safe="/")).geturl()


def for_celery(url: str) -> tuple[str, Mapping[str, object] | None]:
    """Return what `broker_url` and `broker_use_ssl` have to be for an address."""
    parts = urlsplit(url)
    if parts.scheme not in ENCRYPTED:
        return url, None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    files = {name: query.pop(name) for name in FILES if name in query}
    verify = _VERIFIED[query.pop(VERIFY, "required")]
    if parts.scheme == "rediss":
        # kombu reads the address itself; Flower does not.
        return url, {**files, VERIFY: verify}
    # Here it is the other way round.
    bare = parts._replace(query=urlencode(query, safe="/")).geturl()
    options = {name.removeprefix("ssl_"): value for name, value in files.items()}
    # Its name is checked where it is given.
    server = {"server_hostname": parts.hostname} if verify is ssl.CERT_REQUIRED else {}
    return bare, {**options, **server, "cert_reqs": verify}
