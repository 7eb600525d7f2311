"""`SessionStore`, the drop-in for power-loop 0.2.0."""
