"""The frames of the manifest's tests serve here as well."""

from tests.records.conftest import faces, one_of_each_class, rows

__all__ = ["faces", "one_of_each_class", "rows"]
