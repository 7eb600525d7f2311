"""Reads of sessions, messages, compactions and links from a database."""
