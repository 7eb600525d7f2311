"""The folder and its files: names, places, lines, and what the model is sent."""
