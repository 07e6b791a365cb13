import dataclasses

import numpy as np
import pytest

from tfopt.config.components import SOURCES
from tfopt.config.schema import Data
from tfopt.data.source import SourceData
from tfopt.data.split import ArraySplit
from tfopt.registry import resolve


def test_a_source_is_frozen_and_has_no_splits_that_were_not_given():
    source = SourceData(ArraySplit(np.zeros(3)), "three zeros")
    assert (source.evaluation, source.validation, source.classes) == (None, None, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.classes = 3


@pytest.mark.parametrize("name", ["mnist5k", "digits"])
def test_sources_in_the_table_return_it(name):
    assert isinstance(resolve(SOURCES, "data source", name)(Data(source=name)), SourceData)


@pytest.mark.parametrize("name", SOURCES)
def test_every_entry_of_the_table_can_be_imported(name):
    assert callable(resolve(SOURCES, "data source", name))
