"""Bytes over HTTP and S3 that survive a kill."""
