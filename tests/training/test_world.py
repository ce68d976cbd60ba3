"""What the environment says of several processes."""

import pytest

from c4c.core.errors import C4CError
from c4c.training.parallel import join_world


@pytest.mark.parametrize("value", ["x", "", "-1", "2.5", "²"])
def test_a_number_of_processes_that_torchrun_would_not_set_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", value)
    with pytest.raises(C4CError, match=r"\$WORLD_SIZE is .*start c4c with torchrun"):
        join_world()


def test_a_part_of_what_torchrun_sets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(C4CError, match=r"\$RANK is None"):
        join_world()
