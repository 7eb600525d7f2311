"""The panes and what they are made of; each module is one widget."""
