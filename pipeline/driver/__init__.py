"""What a command does: studies are run, probed, stopped and tidied up."""
