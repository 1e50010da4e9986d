"""What a row sends: its prompt, its conversation, its parameters, and which rows can be sent."""
