"""Contenders that carry values between processes, the works they are measured with, and the report."""
