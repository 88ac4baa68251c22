"""What can go wrong while making bases and adapters: every error names the value, the limit and the remedy."""


class TrainingError(Exception):
    """Something the person who started the training can put right; the command line prints it as one line."""

    exit_code = 2


class ConfigurationError(TrainingError, ValueError):
    """A setting is unknown, of the wrong type or outside its range."""


class DataError(TrainingError, ValueError):
    """A data set cannot be used as it is; the message names the file and the line."""


class CheckpointError(TrainingError, RuntimeError):
    """A checkpoint is missing, unfinished or belongs to a different run."""


class Diverged(TrainingError, ArithmeticError):
    """Loss or gradient is no longer a number; the learning rate is too high or the data are at fault."""
