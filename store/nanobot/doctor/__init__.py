"""What is wrong in a folder of session files."""
