"""Ids of parameters that are the same in every process, as `pytest-xdist` needs them."""


def without_address(value: object) -> str:
    """Return what a value prints, up to its address in memory."""
    return repr(value).partition(" at 0x")[0]
