"""tf_keras belongs to one minor version of TensorFlow."""

from __future__ import annotations

import re

import pytest

from tfopt.errors import BackendMissing
from tfopt.keras2.core import require_same_minor_version


@pytest.mark.parametrize("tf_keras", ["2.20.1", "2.9.0", "3.21.0"])
def test_a_tf_keras_of_another_tensorflow_is_named_with_the_command(tf_keras: str) -> None:
    message = (
        f"tf_keras {tf_keras} was made for another TensorFlow than the installed 2.21.0: their "
        "major and minor versions must be equal. Run: pip install 'tf_keras==2.21.*'"
    )
    with pytest.raises(BackendMissing, match=f"^{re.escape(message)}$"):
        require_same_minor_version("2.21.0", tf_keras)


def test_another_bug_fix_of_the_same_version_is_allowed() -> None:
    require_same_minor_version("2.20.0", "2.20.1")
