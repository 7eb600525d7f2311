"""The verbs without a screen: what they read, and how it is printed as text or as JSON."""
