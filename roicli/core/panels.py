"""The panels of the help, in its order, and how meanings of words are written there."""

from collections.abc import Mapping

LOOKING, RULES, TOLERATED = "What to look at", "Rules", "What is tolerated"
WRITING, MACHINES = "Writing the result", "Several machines"
OPERATOR, ROUNDING = "Operator", "Rounding rules"
READING, RUNNING, TABLE = "Reading the inputs", "Running", "Error table"
PHOTOS = "Photos"
PANELS = (
    None, LOOKING, RULES, TOLERATED, OPERATOR, ROUNDING, WRITING, TABLE, READING, PHOTOS, RUNNING,
    MACHINES,
)  # fmt: skip


def describe(meanings: Mapping[str, str]) -> str:
    """Words and what they mean, as a sentence of the help."""
    return "; ".join(f"{word}: {meaning}" for word, meaning in meanings.items()) + "."
