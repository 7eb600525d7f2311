"""The verbs without a screen: what they read, and how they print it as text or as JSON."""
