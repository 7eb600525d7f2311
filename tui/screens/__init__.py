"""The screens that open over the browser."""
