"""The shards of the loader's tests serve here as well."""

from tests.loading.conftest import standardized

__all__ = ["standardized"]
