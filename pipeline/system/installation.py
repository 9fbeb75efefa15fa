"""Where our code lies, and what is found when an installation is looked at."""

from dataclasses import dataclass
from pathlib import Path

# The folder that holds our packages: the top of a checkout, or the installed package itself.
ROOT = Path(__file__).resolve().parents[2]
# What is imported as tangentscope: in a checkout a folder of its own, with links to our packages.
PACKAGE = ROOT / "tangentscope" if (ROOT / "tangentscope").is_dir() else ROOT
PACKAGES = ("pipeline", "probes", "models", "tasks", "studies")


@dataclass(frozen=True)
class Check:
    """One thing looked at, whether it is good, and what was found (with what to do if not)."""

    what: str
    good: bool
    found: str
    absent: bool = False  # and need not be there

    @property
    def mark(self) -> str:
        """What a line about it begins with."""
        return "–" if self.absent else "ok" if self.good else "WRONG"
