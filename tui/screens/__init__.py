"""The screens: the browser, and what opens on top of it."""
