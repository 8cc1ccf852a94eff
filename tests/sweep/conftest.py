from tests.jobs.conftest import store, tiny

__all__ = ["store", "tiny"]
