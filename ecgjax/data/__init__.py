"""Recordings, stores and the pipeline that cuts crops from them."""

from ecgjax.data import leads, sources

__all__ = ["leads", "sources"]
