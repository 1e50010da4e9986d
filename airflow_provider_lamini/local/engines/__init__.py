"""What turns prompts into text and texts into vectors, behind one small interface."""
