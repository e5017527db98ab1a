"""Millrace's own web page in headless Chromium: make check-web."""
