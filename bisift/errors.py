"""The errors that bisift raises on purpose. Each carries one line that says what to do next."""

from __future__ import annotations


class BisiftError(Exception):
    """Base of all errors that a user can act on; the command line prints it in one line.

    `exit_code` is what a command returns when the error ends it.
    """

    exit_code = 1


class ConfigError(BisiftError):
    """A wrong option, profile or configuration file (exit code 2)."""

    exit_code = 2


class InputError(BisiftError):
    """An input that cannot be used at all; the message names the file and, where there is one, the row."""


class ContractError(BisiftError):
    """A table or file that breaks the data contract: a bug, or a file of another version."""


class ModelError(BisiftError):
    """A model's weights are missing, or their digest is not the expected one."""


class RecordError(BisiftError):
    """One record that cannot be read. Readers turn it into a reject; it never ends a run."""
