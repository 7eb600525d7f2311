"""Layout of a sessions folder: file names, discovery, lines, and the rules by which messages are sent to the model."""
