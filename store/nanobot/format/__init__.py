"""nanobot's folders and files: names, lines, and what the model is sent."""
