"""Errors that a user can act on: the message is a sentence for them."""


class Failure(Exception):
    """What was asked for cannot be done; the message says why."""


class InputError(Failure, ValueError):
    """A picture, a file or a parameter cannot be used."""


class GateError(Failure, ValueError):
    """A model may not be served; the message says which score failed against which."""
