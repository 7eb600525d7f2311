"""The doctor for folders of session files. It only reads."""
