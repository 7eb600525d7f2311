"""`Session` and `SessionManager`, the drop-ins for nanobot 0.2.0."""
