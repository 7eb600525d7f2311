"""Sessions and messages as styled text."""
