"""Recordings, stores and the pipeline that cuts crops from them."""
