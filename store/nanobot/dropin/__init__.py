"""`Session` and `SessionManager`, drop-ins for those of nanobot 0.2.0."""
