"""The contract suite over all methods, on a GPU."""

import pytest
from methods.test_contract_suite import *  # noqa: F403 - all of its tests, as they are

pytestmark = pytest.mark.filterwarnings("ignore:.*deterministic implementation")
