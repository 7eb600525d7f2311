"""The main screen: sessions at the left, the timeline in the middle, compactions and the inspector at the right."""
