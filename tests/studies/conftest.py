import sys
from pathlib import Path

# The synthetic data of the tasks' tests serve here too.
sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))
