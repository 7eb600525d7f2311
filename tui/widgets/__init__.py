"""The panes and their parts. Each module is one widget."""
