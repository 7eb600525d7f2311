"""The controllers of the main screen. Each owns one concern and its state, and none writes another's attributes."""
