"""How a base is named on the command line, in the words of ``--help``."""

BASE = "name, digest or folder of the base, or a model hub's organisation/name or organisation/name@revision"
