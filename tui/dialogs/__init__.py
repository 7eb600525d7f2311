"""Dialogs and help over a screen."""
