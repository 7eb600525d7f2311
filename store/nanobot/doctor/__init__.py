"""Findings in a folder of session files."""
