import pytest
from synthetic_study import Row, a_run


@pytest.fixture
def widths() -> list[Row]:
    """Four widths with one seed each."""
    return [a_run(**{"model.width": width}) for width in (8, 32, 128, 512)]
