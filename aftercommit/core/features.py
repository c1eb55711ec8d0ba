"""What a task has beyond a plain one: the bits of ``tasks.features``. Pure."""

from enum import IntFlag


class Feature(IntFlag):
    """``UNIQUE``: it was submitted with a unique key. ``CANCELLING``: it runs, and is to be cancelled once its code has
    stopped; from then on it can have no other outcome."""

    PLAIN = 0
    UNIQUE = 1
    CANCELLING = 2
