"""All SQL of the scheduler: `scheduling` for the running service, `operating` for the command line."""
