"""What is true: events, commands and decisions, as pure functions over immutable structs."""
