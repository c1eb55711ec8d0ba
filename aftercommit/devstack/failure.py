"""The one error of the devstack: something on this machine is missing or did not start."""


class DevstackError(Exception):
    """Carries a sentence that tells the user what to do; shown without a traceback."""
