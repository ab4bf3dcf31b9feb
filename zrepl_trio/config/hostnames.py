"""Which texts a resolver can be asked for at all. Pure."""

from __future__ import annotations

__all__ = ["HOST_RULE", "is_host"]

HOST_RULE = "between the dots of a host's name stand 1 to 63 characters"


def is_host(text: str) -> bool:
    """Whether `text` may be a host, by name or address: whether there is one, nobody knows before the
    look-up. By the codec that Python sends each name through."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return "\0" not in text
