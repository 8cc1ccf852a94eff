"""Fetches open data sets: resumable, verified, unpacked."""
